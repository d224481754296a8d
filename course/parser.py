"""An ArgumentParser with one-line errors."""

import argparse


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors that suggest the closest match for an unknown flag."""

    used = False

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args=None, namespace=None):
        self.used = True  # argparse also calls this for the selected command
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            from course.suggestions import suggest

            self.error(f"unrecognized arguments: {' '.join(unknown)}{suggest(self, unknown)}")
        return args
