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

def run(channel, pod, container):
    metadata = field(1, pod["name"]) + field(2, pod["uid"]) + field(3, pod["namespace"])
    # NamespaceOption: each container has its own processes.
    namespaces = field(2, 1)
    linux = field(1, pod["cgroup_parent"]) + field(2, field(1, namespaces) )
    sandbox_config = (field(1, metadata) + field(2, pod["name"]) + field(3, pod["log_dir"])
        + field(6, pod["labels"]) + field(7, pod["annotations"]) + field(8, linux))
    sandbox = first_text(call(channel, "RunPodSandbox", field(1, sandbox_config)))
    security = field(2, int(container.get("privileged", False))) + field(3, namespaces)
    config = (field(1, field(1, container["name"])) + field(2, field(1, container["image"]))
        + field(3, container["command"]) + field(9, container["labels"]) + field(10, container["annotations"])
        + field(15, field(2, security)))
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
