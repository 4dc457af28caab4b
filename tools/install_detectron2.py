#!/usr/bin/env python3
"""Install detectron2 0.6 as a pure Python wheel: no compiler, no clone.

The Python files come from the source archive ``pb1-detectron2==0.6`` on PyPI (detectron2 of
27 October 2021 without its C++ sources). The archive's SHA-256 is checked, calls that newer
libraries have removed are patched, and the compiled module ``detectron2._C``, which Mask2Former
does not use, becomes a Python module whose operators raise an error that says why.

    python tools/install_detectron2.py                   # download, patch, install
    python tools/install_detectron2.py --archive FILE    # the same from a file at hand
    python tools/install_detectron2.py --wheel-dir DIR   # only build the wheel

Install torch, setuptools and wheel first, and ``requirements/detectron2.txt`` for what detectron2
imports. A detectron2 that is importable already is left as it is.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from detectron2_patches import COMPILED_MODULE, PATCHES, InstallError, Patch

SDIST = "pb1-detectron2"
SDIST_VERSION = "0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
# The last number counts the changes of the patches below: another number is installed anew.
VERSION = f"{SDIST_VERSION}+pure.1"
PROJECTS = {
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}
# detectron2's own list pins a black of 2021 and an iopath below 0.1.10, and leaves out opencv,
# which comes under several names (headless or not) and therefore stays out here too.
REQUIRES = (
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7",
    "matplotlib",
    "numpy",
    "omegaconf>=2.1",
    "pillow>=7.1",
    "pycocotools>=2.0.2",
    "pydot",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "torch",
    "torchvision",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)
ZIP_TIME = (2021, 10, 27, 0, 0, 0)  # a fixed time, so that the same input gives the same wheel


def check_archive(archive: Path, sha256: str = SDIST_SHA256) -> None:
    """Raise InstallError unless ``archive`` has the expected SHA-256."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise InstallError(
            f"{archive} has SHA-256 {found}, expected {sha256} ({SDIST} {SDIST_VERSION}): "
            "delete it and let this tool download the archive"
        )


def read_archive(archive: Path) -> dict[str, bytes]:
    """Return the archive's files by path below its top folder; nothing is written to disk.

    Raises InstallError for a member that is a link or a device, or whose path is absolute or
    leaves the archive.
    """
    files = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or "\\" in member.name:
                raise InstallError(f"{archive}: the path of member {member.name!r} is not safe")
            if member.isdir():
                continue
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None:
                raise InstallError(f"{archive}: member {member.name!r} is not a plain file")
            files["/".join(path.parts[1:])] = stream.read()
    return files


def lay_out(files: dict[str, bytes], patches: Iterable[Patch] = PATCHES) -> dict[str, bytes]:
    """Return the files of the wheel: ``detectron2/`` with its projects inside, patched.

    Raises InstallError if a file is missing or a patch does not apply.
    """
    wheel = {path: data for path, data in files.items() if path.startswith("detectron2/")}
    for source, target in PROJECTS.items():
        inside = {p: d for p, d in files.items() if p.startswith(f"{source}/")}
        if not inside:
            raise InstallError(f"the archive has no folder {source}")
        wheel.update({target + path[len(source) :]: data for path, data in inside.items()})
    for patch in patches:
        if patch.path not in wheel:
            raise InstallError(f"patch '{patch.reason}': the archive has no file {patch.path}")
        wheel[patch.path] = patch.apply(wheel[patch.path].decode("utf-8")).encode("utf-8")
    wheel["detectron2/_C.py"] = COMPILED_MODULE.encode("utf-8")
    return wheel


def metadata_files(files: dict[str, bytes], patches: Iterable[Patch] = PATCHES) -> dict[str, bytes]:
    """Return METADATA, WHEEL, the licence and the list of changes for the wheel's dist-info."""
    metadata = [
        "Metadata-Version: 2.1",
        "Name: detectron2",
        f"Version: {VERSION}",
        "Summary: detectron2 0.6 without compiled operators, patched for newer libraries",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "License: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.11",
        *(f"Requires-Dist: {requirement}" for requirement in REQUIRES),
    ]
    wheel = ["Wheel-Version: 1.0", "Generator: install_detectron2", "Root-Is-Purelib: true"]
    changes = [f"Files of {SDIST} {SDIST_VERSION} that were changed, and why:", ""]
    changes += [f"{patch.path}: {patch.reason}" for patch in patches]
    changes += ["detectron2/_C.py: added, in place of the compiled module"]
    texts = {"METADATA": metadata, "WHEEL": [*wheel, "Tag: py3-none-any"], "CHANGES.txt": changes}
    found = {name: ("\n".join(lines) + "\n").encode("utf-8") for name, lines in texts.items()}
    return {**found, "LICENSE": files["LICENSE"]}


def write_wheel(archive: Path, folder: Path) -> Path:
    """Build the wheel from ``archive`` in ``folder`` and return its path."""
    files = read_archive(archive)
    info = f"detectron2-{VERSION}.dist-info"
    content = lay_out(files)
    content.update({f"{info}/{name}": data for name, data in metadata_files(files).items()})
    record = []
    target = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(content):
            out.writestr(zipfile.ZipInfo(path, ZIP_TIME), content[path], zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content[path]).digest())
            record.append(f"{path},sha256={digest.rstrip(b'=').decode()},{len(content[path])}")
        record.append(f"{info}/RECORD,,")
        out.writestr(zipfile.ZipInfo(f"{info}/RECORD", ZIP_TIME), "\n".join(record) + "\n")
    return target


def pip(*arguments: str) -> None:
    """Run this interpreter's pip; raise InstallError if it fails."""
    command = [sys.executable, "-m", "pip", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise InstallError(f"this command failed, see its messages above: {' '.join(command)}")


def download(folder: Path) -> Path:
    """Download the source archive into ``folder`` with pip and return its path.

    pip runs the archive's setup.py to read its name, which is why torch and setuptools must be
    there; it checks the SHA-256 first.
    """
    listing = folder / "requirements.txt"
    listing.write_text(f"{SDIST}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    pip("download", "--quiet", *options, "--dest", str(folder), "--requirement", str(listing))
    found = sorted(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise InstallError(f"pip download left {[p.name for p in found]}, expected one archive")
    return found[0]


def installed() -> str | None:
    """Return a line about the detectron2 that is to be left alone, or None if there is none."""
    spec = importlib.util.find_spec("detectron2")
    if spec is None:
        return None
    try:
        version = importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    if version.startswith(f"{SDIST_VERSION}+pure.") and version != VERSION:
        return None  # ours, with older patches
    return f"detectron2 {version} is installed already and left as it is: {spec.origin}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, help=f"use this {SDIST} {SDIST_VERSION} archive")
    parser.add_argument("--wheel-dir", type=Path, help="write the wheel here, install nothing")
    options = parser.parse_args(arguments)
    try:
        found = None if options.wheel_dir else installed()
        if found:
            print(found)
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            archive = options.archive or download(Path(scratch))
            check_archive(archive)
            wheel = write_wheel(archive, Path(scratch))
            if options.wheel_dir:
                options.wheel_dir.mkdir(parents=True, exist_ok=True)
                print(shutil.copy(wheel, options.wheel_dir))
            else:
                pip("install", "--quiet", "--no-deps", "--no-index", str(wheel))
                print(f"detectron2 {VERSION} installed, {len(PATCHES)} patches applied")
    except (InstallError, OSError) as error:
        print(f"install_detectron2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
