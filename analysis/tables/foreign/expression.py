"""Arithmetic on the columns of a table: the right side of `scionlab import --map target=expression`.

    expression = column | number | expression + - * / ** expression | - expression | ( expression )
               | round log log2 log10 exp exp2 sqrt abs ( expression ) | min max ( expression, expression )

read by Python's own grammar, so with its precedence, and turned into functions of the columns. No other syntax is: no
other call, no attribute or comparison can be written, so nothing in an expression is executed. `log` is the natural
logarithm, and `round` goes to the nearest whole number, halves to the even one. Arithmetic is that of float64
arrays: a division by zero is infinite, a root of a negative number is NaN. A column whose name is not a word is quoted
with backticks, `like this`; a text that is a column's whole name needs no quotes.
"""

import ast
import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Floats
from scionlab.errors import UserError, unknown

ALLOWED = (
    "it may have column names, numbers, + - * / **, parentheses and round, log, log2, log10, exp, exp2, sqrt, abs of "
    "one or min, max of two; quote other names with backticks"
)
LONGEST = 500  # characters: nesting stays below what Python's stack holds

Values = float | Floats
Function = Callable[[Mapping[str, Floats]], Values]

OPERATORS: dict[type[ast.operator], Callable[[Values, Values], Values]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}

ONE: Mapping[str, Callable[[Values], Values]] = {
    "round": np.round,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "exp": np.exp,
    "exp2": np.exp2,
    "sqrt": np.sqrt,
    "abs": np.abs,
}
TWO: Mapping[str, Callable[[Values, Values], Values]] = {"min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Expression:
    """A text, the columns it uses, and its value as a function of them."""

    text: str
    columns: tuple[str, ...]
    function: Function

    def __call__(self, values: Mapping[str, Floats]) -> Values:
        """The value for columns (n,): shape (n,), or a number if no column is used."""
        with np.errstate(all="ignore"):
            return self.function(values)


def parse(text: str, columns: Collection[str]) -> Expression:
    """An expression of `columns`; UserError for other syntax and for columns that are not there."""
    text = text.strip()
    if text in columns:
        return Expression(text, (text,), lambda values: values[text])
    if len(text) > LONGEST:
        raise UserError(f"an expression of {len(text)} characters is too long; at most {LONGEST} are allowed")
    quoted: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        word = "q" * (len(text) + 1) + str(len(quoted))  # longer than the text, so no name in it
        quoted[word] = match[1]
        return f" {word} "

    code = re.sub("`([^`]*)`", placeholder, text).strip()
    builder = _Builder(text, code, columns, quoted, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python has doubts about, as in 1if x, is no arithmetic either
            function = builder.build(ast.parse(code, mode="eval").body)
    except UserError:
        raise
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # ValueError: characters that no source may have
        raise builder.refusal() from None
    return Expression(text, tuple(dict.fromkeys(builder.used)), function)


@dataclass(frozen=True)
class _Builder:
    """From syntax trees to functions; `used` collects the columns in the order they are met."""

    text: str
    code: str
    columns: Collection[str]
    quoted: Mapping[str, str]
    used: list[str]

    def build(self, node: ast.expr) -> Function:
        match node:
            case ast.BinOp(left, op, right) if type(op) in OPERATORS:
                return self._binary(OPERATORS[type(op)], self.build(left), self.build(right))
            case ast.UnaryOp(ast.USub(), operand):
                return self._unary(np.negative, self.build(operand))
            case ast.UnaryOp(ast.UAdd(), operand):
                return self.build(operand)
            case ast.Call(ast.Name(name), arguments, []):
                return self._call(name, arguments)
            case ast.Constant(int() | float() as value) if not isinstance(value, bool):
                return self._constant(value)
            case ast.Name(folded):
                # Python folds names: the micro sign µ becomes the letter μ. A column is called as it was written.
                name = ast.get_source_segment(self.code, node) or folded
                return self._column(self.quoted.get(name, name))
        raise self.refusal()

    def _call(self, name: str, arguments: list[ast.expr]) -> Function:
        if len(arguments) == 1 and name in ONE:
            return self._unary(ONE[name], self.build(arguments[0]))
        if len(arguments) == 2 and name in TWO:
            return self._binary(TWO[name], self.build(arguments[0]), self.build(arguments[1]))
        raise self.refusal()

    @staticmethod
    def _binary(operator: Callable[[Values, Values], Values], left: Function, right: Function) -> Function:
        return lambda values: operator(left(values), right(values))

    @staticmethod
    def _unary(function: Callable[[Values], Values], of: Function) -> Function:
        return lambda values: function(of(values))

    def _constant(self, value: float) -> Function:
        try:
            number = np.float64(value)
        except OverflowError:
            raise self.refusal() from None
        return lambda values: number

    def _column(self, name: str) -> Function:
        if name not in self.columns:
            name = self._spelt_otherwise(name)
        self.used.append(name)
        return lambda values: values[name]

    def _spelt_otherwise(self, name: str) -> str:
        """The one column that is the name with other codes for the same signs."""
        found = [column for column in self.columns if _folded(column) == _folded(name)]
        if len(found) != 1:
            raise unknown("column", name, self.columns)
        return found[0]

    def refusal(self) -> UserError:
        """For a text that is no such arithmetic."""
        return UserError(f"{self.text!r} is not an expression of columns: {ALLOWED}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name)
