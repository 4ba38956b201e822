"""A gRPC service, spoken to with documents as JSON has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


class Service:
    """The service `name` of a .proto file, behind a socket of the file system."""

    def __init__(self, socket: Path, proto: Path, name: str) -> None:
        self._name = name
        self._methods = _load(proto).FindServiceByName(name).methods_by_name
        self._address = f"unix:{socket}"

    def call(self, method: str, **request: Any) -> Any:
        """What a method answers; what has its default value is there, too."""
        types = self._methods[method]
        question, answer = map(
            message_factory.GetMessageClass, (types.input_type, types.output_type)
        )
        with grpc.insecure_channel(self._address) as channel:
            ask = channel.unary_unary(
                f"/{self._name}/{method}",
                request_serializer=question.SerializeToString,
                response_deserializer=answer.FromString,
            )
            answered = ask(json_format.ParseDict(request, question()), timeout=60)
        return json_format.MessageToDict(
            answered, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )


def _load(proto: Path) -> descriptor_pool.DescriptorPool:
    protoc = (sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto.parent}")
    command = (*protoc, "--descriptor_set_out=/dev/stdout", proto)
    compiled = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool
