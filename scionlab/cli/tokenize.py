"""`scionlab tokenize`: texts into shards of tokens with a manifest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scionlab.cli.completion import choices
from scionlab.cli.options import Json, app, out, print_json, stop_when_asked, with_home
from scionlab.errors import UserError

if TYPE_CHECKING:
    from scionlab.problems.data import Manifest


@app.command()
def tokenize(
    texts: Annotated[list[Path], typer.Argument(help="text files, or .jsonl files with a text in every line")],
    to: Annotated[Path, typer.Option(callback=with_home, metavar="FOLDER", help="folder of shards and manifest")],
    tokenizer: Annotated[
        str, typer.Option(help="bytes, the path of a tokenizer.json, or tiktoken:ENCODING such as tiktoken:gpt2")
    ] = "bytes",
    train: Annotated[
        int, typer.Option(metavar="TOKENS", min=0, help="train a tokenizer of so many tokens on the training documents")
    ] = 0,
    end: Annotated[str | None, typer.Option(help="text of the token after a document; default: the usual one")] = None,
    documents: Annotated[
        str,
        typer.Option(
            help="what a document is: parts of a file (between blank lines, or lines), or whole files",
            autocompletion=choices("parts", "files"),
        ),
    ] = "parts",
    val_share: Annotated[float, typer.Option(help="share of the documents that are validated on")] = 0.1,
    vocabulary_multiple: Annotated[int, typer.Option(min=1, help="pad the vocabulary to a multiple of this")] = 64,
    shard_tokens: Annotated[int, typer.Option(min=1, help="tokens of a file, at most")] = 10**8,
    index: Annotated[
        bool, typer.Option("--index", help="the files are shards: only write their manifest, after reading all of them")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="with --index: uint16 or uint32, of files without a header; default: uint16"),
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(min=2, help="with --index: how many tokens there are; default: as headers say")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn texts into shards that trials read as data="tokens:FOLDER": uint16 or uint32, as nanoGPT has them.

    Documents are divided by their content: equal ones are all trained on, or all validated on. The folder is there
    when it is finished, and not before.

    Examples:

      scionlab tokenize book.txt --to shards --train 8192

      scionlab tokenize part-*.jsonl --to shards --tokenizer tiktoken:gpt2 --vocabulary-multiple 128

      scionlab tokenize fineweb_*.bin --index --to . --vocabulary-multiple 128
    """
    from scionlab.problems.data.tokenized import Asked
    from scionlab.problems.data.tokenized import index as index_of
    from scionlab.problems.data.tokenized import tokenize as write

    stop_when_asked()
    paths = [Path(path).expanduser() for path in texts]
    if index:
        said = {"dtype": dtype, "vocabulary": vocabulary, "multiple": vocabulary_multiple}
        manifest = index_of(paths, to, {name: str(value) for name, value in said.items() if value is not None})
    else:
        for name, value in (("dtype", dtype), ("vocabulary", vocabulary)):
            if value is not None:
                raise UserError(f"{name}: {value} is not allowed without --index: it follows from the tokenizer")
        asked = Asked(
            tuple(paths), tokenizer, train, end, documents, val_share, vocabulary_multiple, shard_tokens
        )  # fmt: skip
        manifest = write(asked, to)
    _say(manifest, to, as_json)


def _say(manifest: "Manifest", to: Path, as_json: bool) -> None:
    splits = {"train": manifest.train, "val": manifest.val}
    if as_json:
        counted = {
            name: {
                "files": len(split.files),
                "tokens": split.tokens,
                "documents": split.documents,
                "text_bytes": split.text_bytes,
            }
            for name, split in splits.items()
        }
        said = manifest.model_dump(include={"dtype", "vocabulary", "padded", "end_of_document", "tokenizer"})
        print_json({"data": f"tokens:{to}", "sha256": manifest.sha256, **said, **counted})
        return
    for name, split in splits.items():
        of = f", {split.documents:,} documents, {split.text_bytes:,} bytes" if split.text_bytes else ""
        out.print(f"{name}: {split.tokens:,} tokens in {len(split.files)} files{of}")
    out.print(f"vocabulary: {manifest.vocabulary:,} tokens of {manifest.dtype}, padded to {manifest.padded:,}")
    out.print(f'next: data="tokens:{to}" in a trial')
