"""What is wrong with a bucket, in words that help and hold no secret."""

from __future__ import annotations

from collections.abc import Iterator

from model.errors import StorageError

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "InvalidToken"}
    | {"ExpiredToken", "AuthFailure"}
)
_DENIED = frozenset({"403", "AccessDenied", "Forbidden", "AllAccessDisabled"})
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})


def is_missing(error: BaseException) -> bool:
    """Whether an error says that there is no such object, in a bucket that is there."""
    code = _code(error)
    return code in _MISSING if code else isinstance(error, FileNotFoundError)


def shared_error(root: str, endpoint: str | None, what: str, error: Exception) -> StorageError:
    """The error that names the bucket, and what to do. Nothing of the request is repeated."""
    why, mend = _reason(root, endpoint, error)
    return StorageError(f"{root}: {what}: {why}.", mend=mend)


def _reason(root: str, endpoint: str | None, error: Exception) -> tuple[str, str]:
    code = _code(error)
    bucket = root.removeprefix("s3://").partition("/")[0]
    if code == "NoSuchBucket":
        return f"there is no bucket “{bucket}”", "Make it, or correct TIEBREAK_ARTIFACTS."
    if code in _KEYS:
        return (
            f"the access key is not accepted ({code})",
            "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what ~/.aws says.",
        )
    if code in _DENIED:
        return (
            f"this access key may not do that ({code})",
            f"Allow it to list, read, write and delete in the bucket “{bucket}”.",
        )
    if code in _CLOCK:
        return f"this machine's clock is wrong ({code})", "Set it by NTP."
    names = {type(each).__name__ for each in _chain(error)}
    if names & _NO_CREDENTIALS:
        return (
            "there is no access key",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials.",
        )
    if code:
        return f"the server says {code}", "See what is the matter there."
    where = endpoint or "Amazon's S3, or what AWS_ENDPOINT_URL names"
    return (
        f"{where} does not answer ({type(error).__name__})",
        "Check that it runs and can be reached, and TIEBREAK_S3_ENDPOINT.",
    )


def _code(error: BaseException) -> str:
    """What the server calls it; empty where none answered."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it."""
    seen = set[int]()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
