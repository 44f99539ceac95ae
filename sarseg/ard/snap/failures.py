"""Known failures of SNAP as data: what gpt prints, and the one line of advice that helps (docs/snap.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sarseg.errors import InputError, MissingError, SarsegError, UsageError

_MOST_SAID = 300
_MOST_LINE_BYTES = 1 << 16
_MOST_WARNINGS = 20
_ERROR = re.compile(rb"^Error: (.*)")
_CAUSE = re.compile(rb"^(?:Caused by: |cause-message\s*: |message\s*: )(.+)")
_CLASS = re.compile(r"^(?:Exception in thread \"[^\"]*\" )?(?:Caused by: )?(?:[a-z_]\w*\.)+[A-Z][\w$]*Exception: ")
_TRACE = re.compile(rb'^(?:Exception in thread "[^"]*" )?(?:[a-z_]\w*\.)+[A-Z][\w$]*(Exception|Error)\b')
_STARTED = b"Executing processing graph"


class SnapFailed(SarsegError):
    """SNAP did not do what it was asked.

    Parameters
    ----------
    what, where, hint : as in `SarsegError`
    kind : of the failure: the `kind` of a `Failure`, "time", "stall", "killed", "output", or "unknown"
    cause : whose exit code it has
    """

    def __init__(
        self, what: str, where: object = None, hint: str = "", *, kind: str = "unknown", cause: type[SarsegError] = InputError
    ) -> None:
        super().__init__(what, where, hint)
        self.kind = kind
        self.cause = cause
        self.exit_code = cause.exit_code

    def __reduce__(self) -> tuple[Any, ...]:
        return _failed, (self.what, self.where, self.hint, self.kind, self.cause)


def _failed(what: str, where: object, hint: str, kind: str, cause: type[SarsegError]) -> SnapFailed:
    return SnapFailed(what, where, hint, kind=kind, cause=cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One known failure.

    Parameters
    ----------
    kind : short name
    signs : texts of which gpt prints at least one, in one line
    advice : what the user can do, without a full stop
    cause : whose exit code the failure has
    when : it counts when gpt fails ("failed"), when gpt says that all is well ("success"), or in both cases ("always"); "warning"
        is only told, after a success
    """

    kind: str
    signs: tuple[str, ...]
    advice: str
    cause: type[SarsegError] = UsageError
    when: Literal["failed", "success", "always", "warning"] = "failed"


JAVA_ERROR = "(a trace of a Java class named ...Error while the graph runs)"
"""The sign of what Java calls an error, not an exception: a class or a native library that does not load, for one."""

FAILURES: tuple[Failure, ...] = (
    Failure(
        kind="heap",
        signs=("java.lang.OutOfMemoryError", "GC overhead limit", "Could not reserve enough space for", "insufficient memory for the"),
        advice="give SNAP more memory (end other programs, raise the container's limit), or cut the scene",
        cause=MissingError,
        when="always",
    ),
    Failure(
        kind="jvm",
        signs=(
            "No suitable Java Virtual Machine", "No Java virtual machine", "java: not found", "java: No such file", "JAVA_HOME is set to",
            "Could not find or load main class", "libjvm.so", "UnsupportedClassVersionError", "Unrecognized VM option",
            "Invalid maximum heap size", "Error occurred during initialization of VM",
        ),
        advice="SNAP's own Java does not start: install SNAP again with its bundled Java, and unset JAVA_HOME and INSTALL4J_JAVA_HOME",
        cause=MissingError,
    ),
    Failure(
        kind="crash",
        signs=("A fatal error has been detected by the Java Runtime Environment",),
        advice="Java itself crashed, most often in a native library: run it again, or take another version of SNAP",
        cause=InputError,
    ),
    Failure(
        kind="disk",
        signs=("No space left on device", "Disk quota exceeded", "There is not enough space on the disk"),
        advice="free some space where the output and the temporary files go; nothing half-written is left",
        cause=MissingError,
        when="always",
    ),
    Failure(
        kind="egm96",
        signs=("/auxdata/dem/egm96", "ww15mgh_b"),
        advice="SNAP wants its EGM96 grid and cannot download it: put ww15mgh_b.zip into auxdata/dem/egm96 of its user directory",
        cause=MissingError,
    ),
    Failure(
        kind="orbit",
        signs=("No valid orbit file found",),
        advice="get the scene's orbit file (EOF) and give it with --orbit: SNAP could not download one",
        cause=MissingError,
    ),
    Failure(
        kind="element",
        signs=("Unknown element '",),
        advice="the operator has no parameter of that name in this version of SNAP (case counts): see `gpt OPERATOR -h`",
    ),
    Failure(kind="parameter", signs=(": unknown parameter '",), advice="the operator has no parameter of that name: see `gpt OPERATOR -h`"),
    Failure(
        kind="operator",
        signs=("SPI not found for operator", "Unknown operator '", "Unknown operator name '"),
        advice="this SNAP has no such operator: check its name, or install the toolbox that has it",
    ),
    Failure(
        kind="band",
        signs=("Value for 'Source Bands' is invalid",),
        advice="the product has no such band at that node: name bands as the node before it makes them",
    ),
    Failure(
        kind="value",
        signs=("' is invalid: '", "' is out of range ", "cannot be converted to a "),
        advice="give a value that the operator allows (case counts): see `gpt OPERATOR -h`",
    ),
    Failure(kind="empty", signs=('because "this.',), advice="an element of the node is empty: give it a value or leave it out"),
    Failure(
        kind="source",
        signs=("Missing source '", "Mandatory source product"),
        advice="correct the node's <sources>: the refid must name a node, the element must be the operator's source",
    ),
    Failure(kind="cycle", signs=("java.lang.StackOverflowError",), advice="the nodes of the graph refer to each other in a circle"),
    Failure(
        kind="graph",
        signs=("No version is specified in the graph", "Wrong version given in the graph", "com.thoughtworks.xstream"),
        advice="the graph is no valid graph XML: it needs <version>1.0</version> and nothing but <node> elements beside it",
    ),
    Failure(kind="format", signs=("No data product writer for the",), advice="take a format that `gpt -oformat` lists, e.g. BEAM-DIMAP"),
    Failure(kind="region", signs=("The pixel region '",), advice="the region lies outside of the image"),
    Failure(
        kind="write",
        signs=("Not able to write product file", "Permission denied", "Read-only file system", "failed to create data output directory"),
        advice="a file or folder may not be written, or not be read: change its permissions, or choose another output folder",
        cause=MissingError,
    ),
    Failure(
        kind="beta0",
        signs=("TerrainFlattening requires beta0",),
        advice="let Calibration give beta0 (outputBetaBand=true), or compute a band Beta0_... with BandMaths, before Terrain-Flattening",
    ),
    Failure(
        kind="map",
        signs=("should not be map projected", "should be terrain corrected or ellipsoid corrected"),
        advice="SNAP cannot correct a product that is on a map already: use --engine native",
        cause=InputError,
    ),
    Failure(kind="deskewing", signs=("deskewing operator is for ALOS PALSAR 1",), advice="leave ALOS-Deskewing out for ALOS-2"),
    Failure(kind="denoised", signs=("noise correction has already been performed",), advice="leave ThermalNoiseRemoval out"),
    Failure(
        kind="noise-order",
        signs=("Noise removal should be applied prior to slice assembly", "ArithmeticException: / by zero"),
        advice="put ThermalNoiseRemoval before TOPSAR-Deburst and SliceAssembly",
    ),
    Failure(
        kind="dem",
        signs=("The DEM '", "The product path '"),
        advice="name an external DEM file that exists, or a DEM that SNAP knows",
        cause=MissingError,
    ),
    Failure(
        kind="dem-empty",
        signs=("no valid output was produced. Please verify the DEM",),
        advice="no height was found for the scene: its tiles could not be downloaded, or the external DEM does not cover it",
        cause=MissingError,
        when="always",
    ),
    Failure(
        kind="input",
        signs=("Specified 'file' [", "No product reader found for file", "FileNotFoundException"),
        advice="check the path of the input, and that it is a whole product that SNAP reads",
        cause=InputError,
    ),
    Failure(
        kind="network",
        signs=("UnknownHostException", "ConnectException"),
        advice="SNAP wanted to download something and could not: give orbit file and DEM as files",
        cause=MissingError,
    ),
    Failure(
        kind="library",
        signs=(JAVA_ERROR,),
        advice="a part of SNAP or a native library does not load: install SNAP again, with all its toolboxes of one version",
        cause=MissingError,
        when="always",
    ),
    Failure(
        kind="null",
        signs=("NullPointerException",),
        advice="often a sign of too little memory, or of an input that lacks metadata: give SNAP more memory, check the input",
        cause=InputError,
    ),
    Failure(
        kind="tile",
        signs=(".computeTile", "JAI error occurred", "OperatorException: "),
        advice="gpt calls it a success, but a tile was not computed and holds zeros: take another version of SNAP, or --engine native",
        cause=InputError,
        when="success",
    ),
    Failure(
        kind="orbit",
        signs=("No valid orbit file found",),
        advice="no orbit file was found and the graph goes on without: positions are those of the annotation",
        when="warning",
    ),
)  # fmt: skip
"""The first that fits counts."""


class Listener:
    """Reads what gpt prints, as it comes, and keeps what matters of it; memory does not grow with the output."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        """Sign -> the first line that holds it."""
        self.said = ""
        """What follows "Error: "."""
        self.traces: list[str] = []
        self._cause = ""
        self._started = False  # what SNAP prints before is noise of its start
        self._rest: dict[str, bytes] = {}

    def feed(self, stream: str, chunk: bytes) -> None:
        """Take bytes of one of the streams; a line counts when it is complete."""
        text = self._rest.get(stream, b"") + chunk
        end = text.rfind(b"\n") + 1
        if end == 0 and len(text) > _MOST_LINE_BYTES:  # no line of SNAP's is as long
            end = len(text)
        self._rest[stream] = text[end:]
        self._block(text[:end])

    def close(self) -> None:
        """No more comes: count what is left."""
        for rest in self._rest.values():
            self._block(rest)
        self._rest = {}

    def diagnose(self, *, failed: bool) -> tuple[Failure, str] | None:
        """The failure and what gpt said about it; None when none is known. `failed`: gpt itself says that it failed."""
        for failure in FAILURES:
            if failure.when in ("always", "failed" if failed else "success"):
                line = self._line(failure)
                if line:
                    if any(sign in self.said for sign in failure.signs):
                        line = self.said
                    elif line.startswith("at ") and self.traces:  # a place in the code says less than what happened there
                        line = self.traces[0]
                    return failure, _plain(line)
        return None

    def reason(self) -> str:
        """What gpt gave as the reason of its failure; "" when it gave none."""
        return _plain(self.said or self._cause)

    def warnings(self) -> tuple[str, ...]:
        """What is worth telling after a success."""
        told = [failure.advice for failure in FAILURES if failure.when == "warning" and self._line(failure)]
        return (*told, *(f"SNAP printed an exception: {trace}" for trace in self.traces))

    def _line(self, failure: Failure) -> str:
        return next((self.found[sign] for sign in failure.signs if sign in self.found), "")

    def _block(self, block: bytes) -> None:
        signs = [sign for sign in _SIGNS if sign not in self.found and _SIGNS[sign] in block]
        self._started = self._started or _STARTED in block
        if not (signs or b"Error" in block or b"Exception" in block or b"message" in block):
            return
        for line in block.split(b"\n"):
            for sign in signs:
                if sign not in self.found and _SIGNS[sign] in line:
                    self.found[sign] = _decode(line)
            self._words(line)

    def _words(self, line: bytes) -> None:
        if not self.said and (found := _ERROR.match(line)):
            self.said = _decode(found[1])
        if not self._cause and (found := _CAUSE.match(line)):
            self._cause = _decode(found[1])
        trace = _TRACE.match(line) if self._started else None
        if trace and trace[1] == b"Error":
            self.found.setdefault(JAVA_ERROR, _decode(line))
        elif trace and len(self.traces) < _MOST_WARNINGS:
            self.traces.append(_decode(line))


_SIGNS = {sign: sign.encode() for failure in FAILURES for sign in failure.signs}


def _decode(line: bytes) -> str:
    return line[: 4 * _MOST_SAID].decode("utf-8", errors="replace").strip()


def _plain(line: str) -> str:
    """Without the class of an exception in front, and not too long."""
    text = _CLASS.sub("", line)
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."


def explain_text(lines: Iterable[str]) -> tuple[Failure, str] | None:
    """The known failure in a text that a failed SNAP printed."""
    listener = Listener()
    for line in lines:
        listener.feed("", f"{line}\n".encode())
    return listener.diagnose(failed=True)
