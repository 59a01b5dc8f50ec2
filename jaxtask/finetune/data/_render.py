"""Renders chat templates: a program of its own, so that what a template does can be bounded.

A template is a program that came with a tokenizer. Its loops may have no end, and its texts may
grow without one; here it has so many seconds and bytes, and may call what Jinja's sandbox allows.
It reads one JSON object from standard input and writes one to standard output; see
`jaxtask.finetune.data.chat`.
"""

import json
import sys
from typing import Any

# Of one conversation: far above what templates need, far below what is a nuisance.
SECONDS = 2
BYTES = 1 << 29


def main() -> None:
    """Render what standard input holds."""
    asked = json.load(sys.stdin.buffer)
    sys.path[:] = asked["path"]
    environment = _environment()
    _bound_memory()
    texts: list[str] = []
    found: dict[str, Any] = {"texts": texts}
    try:
        template = environment.from_string(asked["template"])
        for given in asked["conversations"]:
            with _Seconds():
                text = template.render(**asked["names"], **given, tools=None, documents=None)
            if len(text) > asked["longest"]:
                raise OverflowError(f"it writes over {asked['longest']:,} characters")
            texts.append(text)
    # A template can raise anything.
    except BaseException as error:  # noqa: BLE001
        found["at"] = len(texts)
        found["error"] = f"{type(error).__name__}: {error}"[:2000].removesuffix(": ")
        texts.clear()
    sys.stdout.buffer.write(json.dumps(found).encode())


def _environment() -> Any:
    """What transformers gives to templates."""
    from datetime import datetime

    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag that marks what a model says; the text in it is as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_body")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _body(self, caller: Any) -> str:
            return caller()

    def refuse(message: Any) -> None:
        raise TemplateError(str(message))

    def as_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Seconds:
    """A time limit on its body; where there are no such timers, the caller's own is left."""

    def __enter__(self) -> None:
        import signal

        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGPROF, self._end)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def __exit__(self, *_: object) -> None:
        import signal

        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)

    @staticmethod
    def _end(*_: object) -> None:
        raise TimeoutError(f"it has not ended after {SECONDS} seconds")


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = BYTES if most == resource.RLIM_INFINITY else min(BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (bound, most))


if __name__ == "__main__":
    main()
