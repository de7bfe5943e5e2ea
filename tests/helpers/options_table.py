"""Prints the table of docs/train.md: the options of train.py, from their declarations."""

from jaxsnn.experiment import _config


def table():
    lines = ["| option | effect |", "|---|---|"]
    for field in (*_config.options(_config.Config), *_config.options(_config.Runtime)):
        about, spelling = field.metadata, _config.spelled(field.name)
        if about["kind"].metavar:
            spelling += " " + about["kind"].metavar.replace("|", "/")
        if about["short"]:
            spelling += f", {about['short']}"
        lines.append(f"| `{spelling}` | {_config.help_of(field)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
