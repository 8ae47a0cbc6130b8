"""A gRPC client without a proxy: its channel is xds:///, its bootstrap GRPC_XDS_BOOTSTRAP. It calls five
times a second and says what came of each call, one JSON line a call."""

import json
import sys
import time

import grpc

# Its fallback, should xDS say nothing of TLS, is TLS with public roots: never the clear.
credentials = grpc.xds_channel_credentials()
# Short, so that a refusal that is over is noticed soon.
options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
channel = grpc.secure_channel("xds:///" + sys.argv[1], credentials, options)
call = channel.unary_unary("/weft.test.Echo/Say")
chat = channel.stream_stream("/weft.test.Echo/Chat")
for number in range(10_000):
    try:
        answer, state = call.with_call(b"hello", timeout=5)
        said = {"code": "OK", "served-by": dict(state.trailing_metadata()).get("served-by")}
        said.update(json.loads(answer))
        said["chat"] = len(list(chat(iter([b"a", b"b", b"c"]), timeout=5)))
    except grpc.RpcError as error:
        said = {"code": error.code().name, "details": error.details()}
    print(json.dumps({"number": number, **said}), flush=True)
    time.sleep(0.2)
