{{- define "taffrail.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "taffrail.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "taffrail.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "taffrail.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.selector" -}}
app.kubernetes.io/name: {{ include "taffrail.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "taffrail.labels" -}}
{{ include "taffrail.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "taffrail.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "taffrail.fullname" .) -}}
{{- else -}}
{{- if and (or (include "taffrail.asksServer" .) .Values.openshift.scc) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the account that gets these rights (openshift.scc, or to ask the API server), or have one made (serviceAccount.create); the namespace's `default` is everybody's" -}}
{{- end -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "taffrail.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings with what the chart itself decides. */}}
{{- define "taffrail.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "log" (merge (dict "dir" "/var/log/taffrail") ($config.log | default dict)) -}}
{{- $_ := set $config "rules" (merge (dict "files" (list "/etc/taffrail-rules")) ($config.rules | default dict)) -}}
{{- if not .Values.runtimeSockets -}}
{{/* Who asks no runtime may give up what it takes to reach one. */}}
{{- $none := dict "docker" list "podman" list "cri" list "containerd" list -}}
{{- $enrich := $config.enrich | default dict -}}
{{- $_ := set $config "enrich" (merge (dict "sockets" (merge ($enrich.sockets | default dict) $none)) $enrich) -}}
{{- end -}}
{{- if .Values.pinProbes -}}
{{- $_ := set $config "probes" (merge (dict "pin" "/sys/fs/bpf/taffrail") ($config.probes | default dict)) -}}
{{- end -}}
{{- if .Values.metrics.enabled -}}
{{- $api := dict "listen" (printf "[::]:%d" (int .Values.metrics.port)) "cert_file" "/etc/taffrail-api/tls.crt" "key_file" "/etc/taffrail-api/tls.key" -}}
{{- if .Values.metrics.tokensSecret -}}
{{- $_ := set $api "tokens_file" "/etc/taffrail-api/tokens" -}}
{{- end -}}
{{- if .Values.metrics.clientCaSecret -}}
{{- $_ := set $api "client_ca_file" "/etc/taffrail-api/ca.crt" -}}
{{- end -}}
{{- with .Values.metrics.kubernetes -}}
{{- if .tokens -}}
{{- $_ := set $api "kubernetes" . -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics.oidc -}}
{{- $_ := set $api "oidc" . -}}
{{- end -}}
{{- $_ := set $config "api" $api -}}
{{- end -}}
{{- if .Values.kubernetes.workloads -}}
{{- $_ := set $config "kubernetes" (dict "workloads" true) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The settings that only a new pod takes: all but those that the daemon reads anew (`LIVE` in monitor/src/config/mod.rs).
If it is told not to look whether files have changed, those too, and the rules. */}}
{{- define "taffrail.atStart" -}}
{{- $config := include "taffrail.config" . | fromYaml -}}
{{- if dig "rules" "watch" true $config -}}
{{- $_ := set $config "log" (omit $config.log "record") -}}
{{- toYaml (omit $config "rules" "alerts" "state" "scope") -}}
{{- else -}}
{{- toYaml (list $config .Values.rules) -}}
{{- end -}}
{{- end -}}

{{/* Whether the API server is asked for anything. */}}
{{- define "taffrail.asksServer" -}}
{{- if or .Values.kubernetes.workloads (and .Values.metrics.enabled .Values.metrics.kubernetes.tokens) -}}
true
{{- end -}}
{{- end -}}

{{/* What is not in a namespace needs a name of its own in the cluster. */}}
{{- define "taffrail.clusterRole" -}}
{{- printf "%s:%s" .Release.Namespace (include "taffrail.fullname" .) -}}
{{- end -}}

{{/* A folder that cannot be written to, with all that is mounted below it where Kubernetes can say so. */}}
{{- define "taffrail.readOnly" -}}
readOnly: true
{{- if semverCompare ">=1.31.0-0" .Capabilities.KubeVersion.Version }}
recursiveReadOnly: IfPossible
{{- end }}
{{- end -}}

{{/* A seccomp profile by the name that OpenShift has for it. */}}
{{- define "taffrail.sccSeccomp" -}}
{{- with .Values.seccomp -}}
{{- if eq .type "Localhost" -}}
localhost/{{ .localhostProfile }}
{{- else if eq .type "Unconfined" -}}
unconfined
{{- else -}}
runtime/default
{{- end -}}
{{- end -}}
{{- end -}}
