"""Send notifications of how a retrain ended: to a file, webhooks, mail and a heartbeat address.

A failed notification never changes the outcome of a retrain; failures are returned for the journal.
"""

import json
import os
import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from genfoundry.core.errors import ConfigError, GenfoundryError
from genfoundry.core.io import disk_errors
from genfoundry.retraining.notify import web
from genfoundry.retraining.options import Mail, Retraining
from genfoundry.state.secrets import redact, redacted

MAIL_TIMEOUT_S = 20.0

KINDS = {"promoted": "promoted", "rejected": "rejected", "no_op": "no_op", "busy": "busy"}
"""Which of ``retraining.notify.on`` an outcome belongs to; all others are ``failed``."""


def kind_of(event: Mapping[str, Any]) -> str:
    """The word of ``retraining.notify.on`` that an event belongs to."""
    return KINDS.get(str(event.get("outcome")), "failed")


def text_of(event: Mapping[str, Any], project: str) -> str:
    """An event in a line or two."""
    reasons = "; ".join(str(reason.get("why")) for reason in event.get("reasons") or [])
    key = f" {event['key']}" if event.get("key") else ""
    branch = f"\nbranch {event['branch']}" if event.get("branch") else ""
    why = f"\nbecause: {reasons}" if reasons else ""
    what = str(event.get("outcome") or event.get("kind")).replace("_", " ")
    return f"{project}: {event.get('kind', 'retrain')}{key}: {what}. {event.get('message', '')}{why}{branch}"


def tell(event: Mapping[str, Any], options: Retraining, state: Path, project: str) -> list[str]:
    """Notify of an event and ping the heartbeat; returns failures, one line each, without secrets."""
    failures: list[str] = []
    event = redacted(event)

    def attempt(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except (GenfoundryError, OSError, smtplib.SMTPException, ValueError) as error:
            first = (str(error).splitlines() or [""])[0]
            failures.append(redact(f"{what}: {first or type(error).__name__}"))

    if kind_of(event) in options.notify.on:
        body = {**event, "project": project, "text": text_of(event, project)}
        if options.notify.file:
            attempt("file", lambda: _append(state, options.notify.file, body))
        for address in options.notify.webhooks:
            attempt("webhook", lambda address=address: web.call(address_of(address), options.allow, body))  # type: ignore[misc]
        if options.notify.mail:
            mail = options.notify.mail
            attempt("mail", lambda: send(mail, f"{project}: retrain {event.get('outcome')}", str(body["text"])))
    if options.heartbeat:
        attempt("heartbeat", lambda: web.call(address_of(options.heartbeat), options.allow))
    return failures


def address_of(text: str) -> str:
    """An address, or the one that an environment variable holds: ``$TEAM_WEBHOOK``; it may be a secret.

    Raises:
        ConfigError: There is no such variable.
    """
    if not text.startswith("$"):
        return text
    found = os.environ.get(text[1:])
    if not found:
        raise ConfigError(f"{text}: the environment of this process has no such variable, or it is empty")
    return found


def _append(state: Path, name: str, body: Mapping[str, Any]) -> None:
    path = (state / name).resolve()
    if not path.is_relative_to(state.resolve()):
        raise ValueError(f"retraining.notify.file is {name!r}, outside of {state}; choose a path below it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n")


def send(mail: Mail, subject: str, text: str) -> None:
    """One mail by SMTP. User and password come from the environment, and are only sent over TLS."""
    message = EmailMessage()
    # A header takes no line break: it would begin another header.
    message["Subject"], message["From"] = " ".join(subject.split()), mail.sender
    message["To"] = ", ".join(mail.to)
    message.set_content(text)
    user, password = os.environ.get("GENFOUNDRY_SMTP_USER"), os.environ.get("GENFOUNDRY_SMTP_PASSWORD")
    if user and mail.security == "none":
        raise ValueError("a password is not sent without TLS; set retraining.notify.mail.security to starttls or tls")
    context = ssl.create_default_context()
    client = (
        smtplib.SMTP_SSL(mail.host, mail.port, timeout=MAIL_TIMEOUT_S, context=context)
        if mail.security == "tls"
        else smtplib.SMTP(mail.host, mail.port, timeout=MAIL_TIMEOUT_S)
    )
    with client:
        if mail.security == "starttls":
            client.starttls(context=context)
        if user:
            client.login(user, password or "")
        client.send_message(message)
