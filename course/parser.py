"""An ArgumentParser whose errors are one line."""

import argparse
import difflib


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors, which suggest the closest match for an unknown flag."""

    used = False

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args=None, namespace=None):
        self.used = True  # argparse also calls this for the selected command
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            near = (self._nearest(word.partition("=")[0]) for word in unknown if word.startswith("--"))
            hint = next((f"; did you mean {flag}?" for flag in near if flag), "; --help lists the flags")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return args

    def _nearest(self, word: str) -> str | None:
        """The flag most similar to a word, if any is."""
        names = [flag[2:] for flag in self._known_flags() if flag.startswith("--")]
        longer = [name for name in names if name.startswith(word[2:])]
        found = longer + difflib.get_close_matches(word[2:], names, n=1, cutoff=0.7)
        return f"--{found[0]}" if found else None

    def _known_flags(self) -> list[str]:
        """The flags of this parser and of the selected command."""
        flags = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = [parser for parser in action.choices.values() if parser.used]
                flags += [flag for parser in chosen for flag in parser._known_flags()]
        return flags
