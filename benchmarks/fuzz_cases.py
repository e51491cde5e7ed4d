"""Broken imports: a valid table with its maps, and what may go wrong with each on its way to `scionlab import`."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HEADER = ["optimizer", "N", "bs", "ctx", "rate", "D", "seed", "loss", "my note", "momentum", "status", "width", "steps"]
MAPS = ["n_params=N", "batch_size=bs/ctx", "seq_len=ctx", "lr=2**rate", "tokens=D*1e3", "val_loss=loss"]
# Cells and constants that readers of numbers trip over.
TOKENS = (
    *("", " ", "0", "-0.0", "-1", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308", "9" * 400),
    *("inf", "-inf", "+Infinity", "nan", "-nan", "NaN", "NA", "null", "None", "1_000", "1,000", "1.000,5", "0x10"),
    *("٣", "１２", "½", "1e", "e1", ".", "1.2.3", "--1", "1 2", "True", "1j", "2**63", "9223372036854775808"),
    *("\x00", "\ufeff", "\u202e1", "\x1b[31mred", "a\nb", 'a"b', "a;b", "🙂", "é" * 200, "9**9**9", "=1+1", "x" * 3000),
)
EXPRESSIONS = (
    *("9**9**9", "9**9**9**9", "-9**-9**99", "1/0", "0/0", "0**-1", "(-8)**(1/3)", "1e400", "1e308*10", "loss**1e308"),
    *("(" * 240 + "bs" + ")" * 240, "-" * 490 + "bs", "bs" + "+bs" * 160, "2**" * 160 + "2", "(" * 499, "`" * 499),
    *("1if bs else 2", "0777", "1__0", "0b1", "0xffp1", "1_000", "bs.real", "bs[0]", "bs(1)", "lambda: bs", "bs:=1"),
    *("`my note`*2", "`my note", "``", "` `", "bs*", "*bs", "bs bs", "bs\x00", "bs\n+1", "bs\\\n", "bs#", "'bs'", "٣"),
    *(
        "ℓ",
        "ﬁ",
        "\ud800",
        "\udcff",
        "1" * 450,
        "x" * 600,
        "\t bs",
        "await bs",
        "...",
        "True",
        "b''",
        "f'{bs}'",
        "is is",
    ),
)


@dataclass(frozen=True)
class Case:
    """What `scionlab import` is given: a file's content and suffix, the texts of --map and --set, and --decimal."""

    content: bytes
    suffix: str
    maps: str
    sets: str
    decimal: str | None = None


def make_case(random: Random) -> Case:
    """A case that is valid, or broken up to four times."""
    case = Case(_csv(random), random.choice((".csv", ".csv", ".tsv")), ",".join(MAPS), "")
    if random.random() < 0.3:
        case = replace(case, content=random.choice(parquets()), suffix=".parquet")
    elif random.random() < 0.2:
        case = replace(case, content=_json(random), suffix=".jsonl")
    if random.random() < 0.1:
        case = replace(case, decimal=random.choice((",", ".")))
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        broken = random.choice((_content, _content, _content, _maps, _sets))
        case = broken(case, random)
    return case


def _rows(random: Random, count: int) -> list[list[str]]:
    return [
        [
            *(random.choice(("adam", "scion")), str(random.randint(1, 10**9)), str(64 * random.randint(1, 64)), "64"),
            *(f"{random.uniform(-9, -1):.4g}", str(random.randint(10, 10**6)), str(i), f"{random.uniform(1, 9):.6g}"),
            *(random.choice(("", "a, b", "two\nlines")), "0.1", random.choice(("ok", "ok", "diverged")), "64", ""),
        ]
        for i in range(count)
    ]


def _csv(random: Random) -> bytes:
    separator, end = random.choice((",", ",", ";", "\t")), random.choice(("\n", "\n", "\r\n", "\r"))
    lines = [HEADER, *_rows(random, random.choice((1, 2, 5, 20)))]
    return end.join(separator.join(_quoted(cell, separator) for cell in line) for line in lines).encode() + end.encode()


def _json(random: Random) -> bytes:
    """A row an object, some of it nested, with numbers as numbers or as texts."""
    lines = []
    for row in _rows(random, random.choice((1, 2, 5, 20))):
        cells = dict(zip(HEADER, row, strict=True))
        if random.random() < 0.5:
            cells |= {name: float(cells[name]) for name in ("bs", "ctx", "rate", "D", "loss")}
        if random.random() < 0.2:
            cells |= {"summary": {"eval": {"loss": 2.0}}, "tags": ["a", {}]}
        lines.append(json.dumps(cells))
    return "\n".join(lines).encode()


def _quoted(cell: str, separator: str) -> str:
    return f'"{cell}"' if separator in cell or "\n" in cell else cell


@cache
def parquets() -> tuple[bytes, ...]:
    """The same table as pandas and Arrow write it, with the types that columns may have."""
    rows = [dict(zip(HEADER, row, strict=True)) for row in _rows(Random(0), 7)]
    texts = pd.DataFrame(rows)
    numbers = texts.copy()
    for name in ("N", "bs", "ctx", "rate", "D", "seed", "loss", "momentum", "width"):
        numbers[name] = pd.to_numeric(numbers[name])
    indexed = numbers.set_index(["bs", "rate"])
    odd = numbers.assign(
        optimizer=numbers["optimizer"].astype("category"),
        when=pd.Timestamp("2026-01-01", tz="UTC"),
        nested=[[1, 2], None, [], [3], [4], [5], [6]],
        flag=True,
        raw=b"\xff\xfe",
    )
    tables = [pa.Table.from_pandas(frame) for frame in (texts, numbers, indexed, odd)]
    plain = tables[1].replace_schema_metadata(None)
    decimals = plain.set_column(7, "loss", plain["loss"].cast(pa.decimal128(20, 6), safe=False))
    halves = plain.set_column(4, "rate", plain["rate"].cast(pa.float16()))
    twice = plain.append_column("bs", plain["ctx"])
    return tuple(_written(table) for table in (*tables, plain, decimals, halves, twice, plain.slice(0, 0)))


def _written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


def _content(case: Case, random: Random) -> Case:
    broken = random.choice(BINARY if case.suffix == ".parquet" and random.random() < 0.95 else (*BINARY, *TEXT, *TEXT))
    return replace(case, content=broken(case.content, random))


def _maps(case: Case, random: Random) -> Case:
    parts = list(MAPS)
    place = random.randrange(len(parts))
    target = parts[place].partition("=")[0]
    match random.randrange(5):
        case 0:
            parts[place] = f"{target}={random.choice(EXPRESSIONS)}"
        case 1:
            parts[place] = f"{target}={_expression(random, 6)}"
        case 2:
            del parts[place]
        case 3:
            parts.append(random.choice(parts))
        case _:
            parts[place] = _scrambled(parts[place], random)
    return replace(case, maps=",".join(parts))


def _sets(case: Case, random: Random) -> Case:
    target = random.choice(("optimizer", "status", "seed", "width", "momentum", "steps", "lr", "seq_len", "nonsense"))
    value = random.choice((*TOKENS, *EXPRESSIONS, "1", "0.5", "ok", "adam"))
    kept = [part for part in MAPS if not part.startswith(f"{target}=")]
    return replace(case, sets=f"{target}={value}", maps=",".join(kept) if random.random() < 0.8 else case.maps)


def _expression(random: Random, depth: int) -> str:
    """A text of the grammar, on existing columns and awkward numbers."""
    if depth == 0 or random.random() < 0.3:
        return random.choice(("bs", "ctx", "rate", "D", "loss", "`my note`", "2", "0", "1e300", "1e-300", ".5", "-1"))
    left, right = _expression(random, depth - 1), _expression(random, depth - 1)
    return random.choice((f"({left})", f"-{left}", *(f"{left}{op}{right}" for op in ("+", "-", "*", "/", "**"))))


def _scrambled(text: str, random: Random) -> str:
    characters = list(text)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(characters) + 1)
        characters[place : place + random.randint(0, 2)] = random.choice("=,`*()-+/.0e \"'\\\x00é\ud800[]{}:;#@")
    return "".join(characters)


def _flip(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _insert(content: bytes, random: Random) -> bytes:
    place = random.randrange(len(content) + 1)
    added = random.choice(
        (b"\x00", b"\xff", b"\r", b'"', b"\n", b"\xef\xbb\xbf", random.randbytes(random.randint(1, 40)))
    )
    return content[:place] + added * random.choice((1, 1, 1, 50)) + content[place:]


def _move(content: bytes, random: Random) -> bytes:
    """A piece goes away, or is there twice."""
    start = random.randrange(len(content) + 1)
    end = min(len(content), start + random.randint(1, 60))
    return content[:start] + content[start:end] * random.choice((0, 2)) + content[end:]


def _empty(content: bytes, random: Random) -> bytes:
    return random.choice((b"", b"\n", b"\xef\xbb\xbf", b"\x00" * 100, b"PAR1", b"PAR1PAR1", random.randbytes(200)))


def _cells(content: bytes, random: Random) -> bytes:
    """Some cells become another text."""
    separator = max(b",;\t", key=content.split(b"\n")[0].count)
    cells = content.split(bytes([separator]))
    for _ in range(random.randint(1, 4)):
        cells[random.randrange(len(cells))] = random.choice(TOKENS).encode(errors="surrogatepass")
    return bytes([separator]).join(cells)


def _recode(content: bytes, random: Random) -> bytes:
    text = content.decode("utf-8", errors="replace")
    code = random.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037"))
    return text.encode(code, errors="replace")


def _lines(content: bytes, random: Random) -> bytes:
    """Lines are doubled, shuffled, emptied, or ended in another way."""
    lines = content.split(b"\n")
    match random.randrange(5):
        case 0:
            lines.insert(random.randrange(len(lines)), random.choice(lines))
        case 1:
            random.shuffle(lines)
        case 2:
            lines.insert(0, b"")
        case 3:
            lines[0] = lines[0] + b"," + lines[0]
        case _:
            return random.choice((b"\r", b"\r\n", b"\n\r", b"\x0b", b"\xc2\x85")).join(lines)
    return b"\n".join(lines)


def _long(content: bytes, random: Random) -> bytes:
    """Seldom a very long cell, line or header, or very many lines."""
    if random.random() > 0.02:
        return _flip(content, random)
    size = random.choice((10**4, 10**5, 10**6))
    added = random.choice(
        (b"9" * size, b"," * size, b"x," * (size // 2), b'"' * size, b"1\n" * (size // 20), b"a" * size)
    )
    return added + content if random.random() < 0.5 else content + added


Break = Callable[[bytes, Random], bytes]
BINARY: tuple[Break, ...] = (_flip, _flip, _truncate, _insert, _move, _empty)
TEXT: tuple[Break, ...] = (_cells, _cells, _recode, _lines, _long)
