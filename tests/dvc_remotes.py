"""DVC in scratch repositories, and the remotes that it is tested with: a folder, and an S3 server on this machine."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

REPOSITORY = Path(__file__).parents[1]

_POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
_OPEN = 3
"""Calls that make the user and its key; after them, every request must be signed with a key that the server knows."""


class Remote(Protocol):
    """Where objects are pushed to, with options for `dvc remote modify`."""

    @property
    def url(self) -> str: ...

    @property
    def options(self) -> Mapping[str, str]: ...

    def read(self, md5: str) -> bytes:
        """Return an object's content."""

    def write(self, md5: str, content: bytes) -> None:
        """Replace an object's content behind DVC's back."""

    def delete(self, md5: str) -> None:
        """Delete an object behind DVC's back."""


@dataclasses.dataclass(frozen=True)
class FolderRemote:
    """Remote that is a folder."""

    folder: Path
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.folder)

    def _path(self, md5: str) -> Path:
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def read(self, md5: str) -> bytes:
        return self._path(md5).read_bytes()

    def write(self, md5: str, content: bytes) -> None:
        path = self._path(md5)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(content)
        path.chmod(0o444)  # as it was: DVC looks closer at files that can be written

    def delete(self, md5: str) -> None:
        self._path(md5).unlink()


@dataclasses.dataclass(frozen=True)
class S3Remote:
    """Remote that is a bucket of an S3 server."""

    client: Any
    bucket: str
    options: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/neumix"

    @staticmethod
    def _key(md5: str) -> str:
        return f"neumix/files/md5/{md5[:2]}/{md5[2:]}"

    def read(self, md5: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=self._key(md5))["Body"].read())

    def write(self, md5: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(md5), Body=content)

    def delete(self, md5: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self._key(md5))


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Remote]:
    """Run an S3 server that lets in one user, and yield an empty bucket of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "s3.log").open("w") as log:
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_OPEN)}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        _wait(process, port, folder / "s3.log")
        yield _bucket(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


def _bucket(endpoint: str) -> S3Remote:
    import boto3

    user: dict[str, Any] = {"aws_access_key_id": "first", "aws_secret_access_key": "first"}
    place: dict[str, Any] = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    iam = boto3.client("iam", **place, **user)
    iam.create_user(UserName="neumix")
    iam.put_user_policy(UserName="neumix", PolicyName="all", PolicyDocument=_POLICY)
    key = iam.create_access_key(UserName="neumix")["AccessKey"]
    user = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    client, bucket = boto3.client("s3", **place, **user), f"bucket-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    options = {
        "endpointurl": endpoint,
        "region": "us-east-1",
        "access_key_id": key["AccessKeyId"],
        "secret_access_key": key["SecretAccessKey"],
    }
    return S3Remote(client, bucket, options)


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Keep the user's own settings of DVC, git and S3 away from the commands that tests run."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DVC_", "GIT_"))]:
        patch.delenv(name)
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        patch.setenv(name, str(folder / name.lower()))
    for role in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{role}_NAME", "tester")
        patch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("no_proxy", "127.0.0.1")


def git(folder: Path, *arguments: str) -> str:
    """Run git and return what it prints."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def dvc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run DVC."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def use(folder: Path, remote: Remote, **options: str) -> None:
    """Name the remote in the repository's uncommitted configuration, where `dvc remote modify --local` does."""
    lines = ["[core]", "remote = storage", "['remote \"storage\"']", f"url = {remote.url}"]
    lines += [f"{name} = {value}" for name, value in {**remote.options, **options}.items()]
    (folder / ".dvc" / "config.local").write_text("\n".join(lines) + "\n", encoding="utf-8")
