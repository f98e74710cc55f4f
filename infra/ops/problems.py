"""What may go wrong for an operator, each with an exit status and a sentence that says what to do."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    MissingDependencyException,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)

from redaction import one_line

WRONG = 1
USAGE = 2
AWS = 3
INTERRUPTED = 130
CLOSED_PIPE = 141

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN = {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "AuthFailure"}
_DENIED = {"AccessDenied", "AccessDeniedException", "AccessDeniedFault", "UnauthorizedOperation"}

_CRT = (
    "profiles of `aws login` need the package botocore[crt]: install it beside this command (pip install "
    "'botocore[crt]', or devin-session-cleanup[crt]), or log in another way (aws sso login)"
)


class ProblemError(Exception):
    """Reported without a traceback; the command ends with `status`."""

    status = WRONG


class FoundError(ProblemError):
    """Something is wrong with the stack, its messages, or was not done."""


class UsageError(ProblemError):
    """The command was given something that it cannot use; nothing was done."""

    status = USAGE


class AwsError(ProblemError):
    """AWS could not be asked, or refused."""

    status = AWS


def said(error: BotoCoreError | ClientError) -> str:
    """One line about the error, with what to do about the usual ones."""
    match error:
        case ClientError():
            return _client_error(error)
        case NoCredentialsError() | PartialCredentialsError():
            return "no AWS credentials were found; log in (aws sso login), name a --profile, or set AWS_ACCESS_KEY_ID"
        case ProfileNotFound():
            return f"{error}; aws configure list-profiles names those there are"
        case MissingDependencyException():
            return f"{error}; {_CRT}"
        case NoRegionError():
            return "no Region is set; give --region, or set AWS_REGION"
        case SSLError() | EndpointConnectionError():
            return f"{error}; check the network and AWS_ENDPOINT_URL (the local stack: `make up`, then `. .local/env`)"
        case _:
            return one_line(str(error), 500)


def _client_error(error: ClientError) -> str:
    code, message = code_of(error), one_line(str(error.response.get("Error", {}).get("Message", "")), 400)
    failed = f"{error.operation_name}: {code}: {message}"
    if code in _EXPIRED:
        return f"{failed}; the credentials have expired: log in again (aws sso login)"
    if code in _UNKNOWN:
        return f"{failed}; AWS does not know these credentials: check --profile and the AWS_* variables"
    if code in _DENIED:
        return f"{failed}; these credentials may not do that: use another --profile, or have it permitted"
    return failed


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
