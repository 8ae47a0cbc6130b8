"""A gRPC server in the clear behind a proxy: answers each call with its name, the call's method and the
identity of the caller as the proxy told it. Without generated code: requests and answers are bytes."""

import json
import sys
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, details):
        told = dict(details.invocation_metadata).get("x-forwarded-client-cert", "")

        def one(request, context):
            context.set_trailing_metadata((("served-by", self.name),))
            return json.dumps(
                {"by": self.name, "method": details.method, "heard": request.decode(), "caller": told}
            ).encode()

        def stream(requests, context):
            for request in requests:
                yield one(request, context)

        if details.method.endswith("/Chat"):
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(one)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=(Echo(sys.argv[1]),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"app": port}), flush=True)
server.wait_for_termination()
