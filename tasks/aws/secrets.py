"""Values of AWS Secrets Manager, read with the credentials of this process."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tasks.aws.clients import session
from tasks.errors import RequestError, UnreachableError

_REMEDIES = {  # AWS's error codes, and what an operator does about them
    "ResourceNotFoundException": "no such secret: create it, or correct the ARN",
    "AccessDeniedException": "grant the image's and region's roles secretsmanager:GetSecretValue "
    "on it, and kms:Decrypt on its key if that is your own",
    "DecryptionFailure": "grant the image's and region's roles kms:Decrypt on its key",
    "InvalidRequestException": "it is being deleted: restore it",
    "InvalidParameterException": "correct the ARN",
    "UnrecognizedClientException": "give this process valid AWS credentials",
    "ExpiredTokenException": "give this process valid AWS credentials",
}


def secret_string(arn: str, region: str, *, stage: str = "", version: str = "") -> str | None:
    """The text of a secret; None if the secret is binary.

    Args:
        arn: ARN of the secret.
        region: AWS region of the secret.
        stage: Staging label of the version; empty for the current one.
        version: Id of the version; empty for the one with the label.

    Raises:
        RequestError: The secret cannot be read, and a retry would not help.
        UnreachableError: Secrets Manager does not answer, or refused; a retry may help.
    """
    optional = {"VersionStage": stage, "VersionId": version}
    given = {name: value for name, value in optional.items() if value}
    try:
        client = session().client("secretsmanager", region_name=region)
        found = client.get_secret_value(SecretId=arn, **given)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _REMEDIES:
            raise RequestError(f"AWS answers {code}: {_REMEDIES[code]}.") from error
        raise UnreachableError(f"Secrets Manager refused: {error}.") from error
    except NoCredentialsError as error:
        raise RequestError("this process has no AWS credentials: give it some.") from error
    except BotoCoreError as error:
        raise UnreachableError(f"Secrets Manager does not answer: {error}.") from error
    text: str | None = found.get("SecretString")
    return text
