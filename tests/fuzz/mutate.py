"""Mutants of a file's content: of any bytes, and of what the format means by them."""

import io
import json
import re
import zipfile

import yaml

_SIZES = (0, 1, 127, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63)
_LONG = 5000
# As JSON writes them, but for what JSON has no number, text or depth for.
ODD = (
    *("null", "true", "false", "0", "-0.0", "1", "-1", "2", "1.5", "-1e308", "5e-324"),
    *("1e400", "-1e400", "1e999999999", "NaN", "Infinity", "-Infinity", "9" * _LONG),
    *(str(size) for size in (*_SIZES, 2**64, -(2**63), 10**30, 10**400)),
    *('""', '" "', '"x"', '"1"', '"nan"', '"1e400"', '"true"', '"' + "9" * _LONG + '"'),
    *(r'"\u0000"', r'"\ud800"', r'"\u202etxt.\u2066"', r'"\u001b[2J"', r'"\n\r\u2028"', '"\ufeff"'),
    *('"../../x"', '"/dev/zero"', '"nul"', '".*"', '"(a+)+$"', '"["', '"{{ x }}"', '"[bold]"'),
    *('"' + "x" * 100_000 + '"', '"' + "é" * _LONG + '"', '"' + "a." * _LONG + '"'),
    *("[]", "{}", "[[]]", "[null]", "[1]", '["x"]', '["x", "x"]', '{"x": 1}', '{"x": 1, "x": 2}'),
    *("[" * depth + "]" * depth for depth in (2, 90, 2000, 100_000)),
    *('{"x":' * depth + "1" + "}" * depth for depth in (90, 2000)),
    *("[" + "0," * 20_000 + "0]", "[", '"', "{", "1 2", ""),
)
_ODD_YAML = (
    *("*x", "&x [*x]", "!!python/name:os.system", "!!binary x", "!!set {x}", "1_000", "0x1f"),
    *("0o7", "012", "1:30", "2020-01-01", ".inf", "-.nan", "yes", "~", "? x", "<<: x", "|", "%x"),
    *("&a [x,x,x,x,x,x,x,x]", "{<<: {x: 1}}", "!!int x", "!!float x", "!x y", "'", "@", "`"),
)
_ODD_TEXT = (
    *("\x00", "\r", "\n\n", "\t", "\ufeff", "\u202e", "\x1b[2J", "\u2028", "\x85", '"', "'", "\\"),
    *("(", ")", "*", "-", "|", "/", "{", "}", "[", "]", "<", "{{", "{%", "#", ",", "=", "#begin"),
    *("-1", "1e400", "nan", "x" * 3000, "(" * 3000, "9" * _LONG, "é" * 50, "\ud800"),
)
_HOLE = "a hole for an odd value"


def of_bytes(content, chance):
    """The content with some bytes changed, added, lost, doubled, or all from one place on lost."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        place = chance.randrange(len(content) + 1)
        part = bytes(content[place : place + chance.choice((1, 4, 60, 400))])
        size = chance.choice((1, 2, 4, 8))
        number = chance.choice(_SIZES) % 2 ** (8 * size)
        text = chance.choice(_ODD_TEXT).encode(errors="surrogatepass")
        how = chance.randrange(10)
        if how == 0:
            del content[place:]
        elif how == 1 and part:
            content[place] ^= 1 << chance.randrange(8)
        elif how == 2 and part:
            content[place] = chance.randrange(256)
        elif how == 3:
            del content[place : place + len(part)]
        elif how == 4:
            content[place:place] = chance.randbytes(chance.randrange(1, 20))
        elif how == 5:
            content[place:place] = part * chance.choice((1, 1, 2, 50))
        elif how in (6, 7):
            byteorder = chance.choice(("little", "little", "big"))
            content[place : place + size] = number.to_bytes(size, byteorder)
        elif how == 8:
            content[place : place + chance.choice((0, len(part)))] = text
        else:
            other = chance.randrange(len(content) + 1)
            content[other : other + len(part)] = part
    return bytes(content)


def of_json(text, chance):
    """The JSON text with one value within it replaced, left out, renamed or doubled."""
    return _of_value(json.loads(text), ODD, chance)


def of_yaml(text, chance):
    """The YAML text likewise, in the form that JSON has."""
    return _of_value(yaml.safe_load(text), ODD + _ODD_YAML, chance)


def of_lines(text, chance):
    """JSON lines with one line changed."""
    lines = text.splitlines()
    n = chance.randrange(len(lines))
    lines[n] = of_json(lines[n], chance)
    return "\n".join(lines)


def of_words(text, chance):
    """A text with some words, or what stands between commas and tabs, changed or exchanged."""
    parts = re.split(r"([ \t\n,;|{}()]+)", text)
    for _ in range(chance.choice((1, 1, 2, 5))):
        n = chance.randrange(len(parts))
        parts[n] = chance.choice((chance.choice(parts), chance.choice(_ODD_TEXT), "", parts[n] * 2))
    return "".join(parts)


def of_header(content, chance):
    """A safetensors file whose header, JSON behind its length in eight bytes, is changed."""
    size = int.from_bytes(content[:8], "little")
    header = of_json(content[8 : 8 + size].decode(), chance).encode(errors="surrogatepass")
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def of_zip(content, chance):
    """A zip file with one entry changed, left out or doubled, and all checksums right."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        entries = [(info.filename, file.read(info)) for info in file.infolist()]
    n = chance.randrange(len(entries))
    name, inner = entries[n]
    how = chance.randrange(12)
    if how == 0:
        del entries[n]
    elif how == 1:
        other = chance.choice((chance.choice(entries)[0], "../x", "/x", name + "/x", "x" * 300))
        entries[n] = (other, inner)
    elif name.endswith(".json") and how < 8:
        entries[n] = (name, of_json(inner, chance).encode(errors="surrogatepass"))
    else:
        entries[n] = (name, of_bytes(inner, chance))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as z:
        written = set()
        for name, inner in entries:
            if name not in written:
                z.writestr(name, inner)
            written.add(name)
    return made.getvalue()


def _of_value(value, odd, chance):
    places, queue = [], [(value, ())]
    while queue:
        item, path = queue.pop()
        places.append(path)
        if isinstance(item, dict | list):
            inner = list(item.items() if isinstance(item, dict) else enumerate(item))
            inner = inner if len(inner) < 40 else chance.sample(inner, 40)
            queue += [(own, (*path, name)) for name, own in inner]
    # What lies shallow is rarer, and matters more.
    few = chance.sample(places, 1 + len(places) // 3)
    path = chance.choice((chance.choice(places), min(few, key=len)))
    text = chance.choice(odd)
    if not path:
        return text
    whole = json.loads(json.dumps(value))
    item = whole
    for name in path[:-1]:
        item = item[name]
    name, how = path[-1], chance.randrange(10)
    if how == 0:
        del item[name]
    elif how == 1:
        item[name] = _at(whole, chance.choice(places))
    elif how == 2 and isinstance(item, dict):
        item[f"{name} {_HOLE}"] = item.pop(name)
        text = json.dumps(chance.choice(("x", "", "\u202e", "../x", "1", "x" * 3000)))[1:-1]
    else:
        item[name] = _HOLE
    written = json.dumps(whole, ensure_ascii=chance.random() < 0.5)
    return written.replace(f'"{_HOLE}"', text).replace(_HOLE, text)


def _at(value, path):
    for name in path:
        value = value[name]
    return json.loads(json.dumps(value))
