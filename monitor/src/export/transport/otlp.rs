//! OpenTelemetry's protocol for logs, over gRPC and HTTP (protobuf). A collector that takes only a part of a batch does
//! not say which; what it has against the rest is told.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use reqwest::header::HeaderMap;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::http::{Client, Scheme, credentials, excerpt};
use super::{Batch, Failure, Opening, Receiver, Refused, Sending, Stage, Transport, net};
use crate::export::settings::{Compression, Settings};

pub static GRPCS: Receiver = Receiver {
    scheme: "otlp+grpcs",
    about: "`otlp+grpcs://HOST:4317`: OpenTelemetry's protocol over gRPC, with TLS.",
    format: "otlp",
    takes: |format| format.name == "otlp",
    port: 4317,
    max_event_bytes: 1 << 20,
    batch_wait: super::http::WAIT,
    open: open_grpc,
};

pub static GRPC: Receiver =
    Receiver { scheme: "otlp+grpc", about: "`otlp+grpc://HOST:4317`: the same without TLS.", ..GRPCS };

pub static HTTPS: Receiver = Receiver {
    scheme: "otlp+https",
    about: "`otlp+https://HOST:4318`: OpenTelemetry's protocol over HTTP, as protobuf.",
    port: 4318,
    open: open_http,
    ..GRPCS
};

pub static HTTP: Receiver =
    Receiver { scheme: "otlp+http", about: "`otlp+http://HOST:4318`: the same without TLS.", ..HTTPS };

fn open_http(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let client = Client::new(settings, Scheme("Bearer")).await?;
        Ok(Box::new(OverHttp { client }) as Box<dyn Transport>)
    })
}

fn open_grpc(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let wrong = |error: &dyn std::fmt::Display| Failure::new(Stage::Settings, error);
        let (host, port) = net::host_and_port(settings)?;
        let is_secure = settings.receiver.scheme == GRPCS.scheme;
        // Only to tell how far it came: the channel below makes its own connection.
        let stream = net::connect(settings, &net::look_up(settings).await?).await?;
        if is_secure {
            net::secure(settings, stream).await?;
        }
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let scheme = if is_secure { "https" } else { "http" };
        let endpoint =
            Endpoint::from_shared(format!("{scheme}://{shown}:{port}")).map_err(|error| wrong(&error))?;
        let mut endpoint = endpoint.timeout(settings.timeout).connect_timeout(settings.timeout);
        if is_secure {
            endpoint = endpoint.tls_config(tls(settings)?).map_err(|error| wrong(&error))?;
        }
        let channel = endpoint.connect().await.map_err(|error| Failure::new(Stage::Tcp, error))?;
        let mut client = LogsServiceClient::new(channel).max_decoding_message_size(4 << 20);
        if settings.compression == Compression::Gzip {
            client = client.send_compressed(tonic::codec::CompressionEncoding::Gzip);
        }
        let mut headers: Vec<(String, String)> = settings.headers.clone();
        if let Some(credentials) = credentials(settings, Scheme("Bearer"))? {
            headers.push(("authorization".to_owned(), credentials));
        }
        Ok(Box::new(OverGrpc { client, headers }) as Box<dyn Transport>)
    })
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| Failure::new(Stage::Settings, format_args!("{}: {error}", path.display())))
    };
    let mut tls = match &settings.tls.ca_file {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &settings.tls.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    let (host, _) = net::host_and_port(settings)?;
    Ok(tls.domain_name(settings.tls.server_name.as_deref().unwrap_or(host)))
}

struct OverHttp {
    client: Client,
}

impl Transport for OverHttp {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(async move {
            let body = request(batch).encode_to_vec();
            let url = self.client.at("/v1/logs");
            let answer = self.client.post(url, "application/x-protobuf", body, HeaderMap::new()).await?;
            let response = ExportLogsServiceResponse::decode(&*answer.body).map_err(|_| {
                Failure::new(
                    Stage::Accepted,
                    format_args!("not an answer of OTLP: {}", excerpt(&answer.body)),
                )
            })?;
            judge(&response, batch)
        })
    }
}

struct OverGrpc {
    client: LogsServiceClient<Channel>,
    headers: Vec<(String, String)>,
}

impl Transport for OverGrpc {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(async move {
            let mut request = Request::new(request(batch));
            for (name, value) in &self.headers {
                let wrong =
                    |_| Failure::new(Stage::Settings, format_args!("the header `{name}` cannot be sent"));
                let key = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
                let key =
                    key.map_err(|_| Failure::new(Stage::Settings, format_args!("`{name}` is no header")))?;
                request.metadata_mut().insert(key, AsciiMetadataValue::try_from(value).map_err(wrong)?);
            }
            let response = self.client.export(request).await.map_err(|status| failed(&status))?;
            judge(response.get_ref(), batch)
        })
    }
}

fn failed(status: &Status) -> Failure {
    let why = format!("{:?}: {}", status.code(), excerpt(status.message().as_bytes()));
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Failure::new(Stage::Authentication, why),
        Code::InvalidArgument => Failure::refusal(why),
        _ => Failure::new(Stage::Accepted, why),
    }
}

fn judge(response: &ExportLogsServiceResponse, batch: &Batch) -> Result<Vec<Refused>, Failure> {
    let rejected = response.partial_success.as_ref().filter(|partial| partial.rejected_log_records > 0);
    match rejected {
        None => Ok(Vec::new()),
        // One by one it will say which.
        Some(partial) if batch.events.len() > 1 => {
            Err(Failure::refusal(excerpt(partial.error_message.as_bytes())))
        }
        Some(partial) => Ok(vec![Refused { index: 0, reason: excerpt(partial.error_message.as_bytes()) }]),
    }
}

/// The batch, whose events are log records, as one request: one resource for each node.
fn request(batch: &Batch) -> ExportLogsServiceRequest {
    let mut resource_logs: Vec<ResourceLogs> = Vec::new();
    let mut last_node = None;
    for (event, bytes) in batch.iter() {
        // Our own encoder wrote it.
        let Ok(record) = LogRecord::decode(bytes) else { continue };
        if last_node != Some(&event.node) {
            last_node = Some(&event.node);
            let scope = InstrumentationScope {
                name: "taffrail".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Default::default()
            };
            let scope_logs = vec![ScopeLogs { scope: Some(scope), ..Default::default() }];
            resource_logs.push(ResourceLogs {
                resource: Some(resource(&event.node)),
                scope_logs,
                ..Default::default()
            });
        }
        if let Some(scope) = resource_logs.last_mut().and_then(|logs| logs.scope_logs.last_mut()) {
            scope.log_records.push(record);
        }
    }
    ExportLogsServiceRequest { resource_logs }
}

/// The node as a resource.
fn resource(node: &str) -> Resource {
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Kind::StringValue(value.to_owned())) }),
        ..Default::default()
    };
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![
        attribute("service.name", "taffrail"),
        attribute("service.version", version),
        attribute("host.name", node),
    ];
    Resource { attributes, ..Resource::default() }
}
