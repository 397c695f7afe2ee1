"""Speaks CRI to a runtime: cri.py SOCKET run POD.json CONTAINER.json | remove SANDBOX

Messages are written by hand, field by field, as api.proto of CRI v1 numbers them: no generated code, no crictl."""
import grpc, json, sys

def field(number, value):
    """One field of a protobuf message: text, bytes, a number, a map, or a list of those."""
    if isinstance(value, dict):
        return b"".join(field(number, field(1, k) + field(2, v)) for k, v in value.items())
    if isinstance(value, list):
        return b"".join(field(number, item) for item in value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data

def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])

def first_text(message):
    """The text in field 1 of an answer that has it first: the id of what was made."""
    return message[2:2 + message[1]].decode()

def call(channel, name, message):
    method = channel.unary_unary("/runtime.v1.RuntimeService/" + name, lambda m: m, lambda m: m)
    return method(message, timeout=60)

def capabilities(container):
    add, drop = container.get("add", []), container.get("drop", [])
    return field(1, field(1, add) + field(2, drop)) if add or drop else b""

def run(channel, pod, container):
    metadata = field(1, pod["name"]) + field(2, pod["uid"]) + field(3, pod["namespace"])
    # NamespaceOption: each container has its own processes; the network is the pod's (0) or the machine's (2).
    namespaces = field(1, pod.get("network", 0)) + field(2, 1)
    linux = field(1, pod["cgroup_parent"]) + field(2, field(1, namespaces) )
    # On the machine's network it has the machine's name.
    hostname = b"" if pod.get("network") else field(2, pod["name"])
    sandbox_config = (field(1, metadata) + hostname + field(3, pod["log_dir"])
        + field(6, pod["labels"]) + field(7, pod["annotations"]) + field(8, linux))
    sandbox = first_text(call(channel, "RunPodSandbox", field(1, sandbox_config)))
    security = (capabilities(container) + field(2, int(container.get("privileged", False))) + field(3, namespaces)
        + field(7, int(container.get("read_only", False))) + field(11, int(container.get("no_new_privileges", False))))
    # SecurityProfile: empty is the runtime's own for seccomp; without one there is none.
    security += field(15, b"") if container.get("confined") else b""
    mounts = [field(1, m["inside"]) + field(2, m["outside"]) + field(3, int(m["read_only"])) + field(5, m["propagation"])
        for m in container.get("mounts", [])]
    config = (field(1, field(1, container["name"])) + field(2, field(1, container["image"]))
        + field(3, container.get("command", [])) + field(4, container.get("args", [])) + field(7, mounts)
        + field(9, container["labels"]) + field(10, container["annotations"]) + field(15, field(2, security)))
    made = call(channel, "CreateContainer", field(1, sandbox) + field(2, config) + field(3, sandbox_config))
    call(channel, "StartContainer", field(1, first_text(made)))
    return {"sandbox": sandbox, "container": first_text(made)}

def remove(channel, sandbox):
    call(channel, "StopPodSandbox", field(1, sandbox))
    call(channel, "RemovePodSandbox", field(1, sandbox))

with grpc.insecure_channel("unix:" + sys.argv[1]) as channel:
    if sys.argv[2] == "run":
        print(json.dumps(run(channel, *(json.loads(text) for text in sys.argv[3:5]))))
    else:
        remove(channel, sys.argv[3])
