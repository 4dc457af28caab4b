"""Tar archives of images, as WebDataset has them: what is in them, and reading it in any order."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from ...errors import UserError
from ..atomic import PathLike


@dataclass(frozen=True)
class TarMember(os.PathLike[str]):
    """A file in an archive that is not compressed, so that it can be read by itself.

    It passes for a path wherever images are read; as text it is ``archive.tar/name``.

    Attributes:
        archive: path of the archive.
        name: of the file in it.
        offset, size: where its bytes are, and how many.
    """

    archive: str
    name: str
    offset: int
    size: int

    def __fspath__(self) -> str:
        return f"{self.archive}/{self.name}"

    def __str__(self) -> str:
        return self.__fspath__()

    def open(self) -> BytesIO:
        """Return the bytes as a file.

        Raises:
            FileNotFoundError: there is no such archive.
            UserError: it has been cut short since the member was found.
        """
        with open(self.archive, "rb") as file:
            if self.offset + self.size > file.seek(0, os.SEEK_END):  # before memory is asked for
                raise UserError(f"{self}: the archive ends before the file does")
            file.seek(self.offset)
            return BytesIO(file.read(self.size))


def tar_members(path: PathLike) -> Iterator[TarMember]:
    """Yield the files in an archive, in its order; only heads are read.

    Raises:
        FileNotFoundError: there is no such archive.
        UserError: it is no tar archive, a compressed one, or damaged; those before have come.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    place = (member.offset_data, member.size)
                    yield TarMember(os.fspath(path), member.name, *place)
                archive.members = []  # type: ignore[attr-defined]  # of which it would keep all
        if os.path.getsize(path) % tarfile.BLOCKSIZE:  # where tarfile sees its end
            raise tarfile.ReadError("it ends in the middle of a file's head")
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        # Lengths that no file has are asked for as memory, or as a place in it.
        raise UserError(
            f"{path}: expected a tar archive that is whole and not compressed (unpack a .tar.gz "
            f"with gunzip): {error}"
        ) from error
