"""Attacks on the readers of the results: a terminal, a browser, a spreadsheet or a program."""

from attacks import Attack

HOSTILE = (
    "\\x1b]0;owned\\x07\\x1b[2J\\x1b[31m<MARKER>-ansi</pre><script>alert('<MARKER>-html')</script>"
    "<img src=x onerror=alert(1)>"
    "[<MARKER>-link](javascript:alert(1)) ![x](http://example.org/<MARKER>) ``` \\u202egnp.exe\\u2066 \\u200b"
    '| a | b |\\n# heading\\n=HYPERLINK(\\"http://example.org\\")\\r\\n--- \\x00 \\x9b31m'
)


def raising(what: str) -> str:
    return f"def KLD(mean, log_std):\n    raise {what}\n\nKLD_per_dim = elbo_to_bpd = sample_reparameterize = KLD\n"


ATTACKS = {
    "hostile text": Attack("inject into a terminal, browser or spreadsheet", raising(f'ValueError("{HOSTILE}")')),
    "hostile text from a blank": Attack(
        "inject the same text through a blank's message", raising(f'NotImplementedError("Q1.7: {HOSTILE}")')
    ),
    "hostile source": Attack(
        "inject text through a source line and a function name",
        "def KLD(mean, log_std):\n"
        "    raise ValueError('')  # \x1b[31m\u202e <MARKER>-source <script>alert(1)</script>\n",
    ),
    "half a character": Attack(
        "raise an exception whose message cannot be encoded", raising('ValueError("\\ud800 \\udfff")')
    ),
    "a huge message": Attack("fill the results", raising('ValueError("<b>x" * 100_000_000)')),
    "a message that cannot be read": Attack(
        "raise an exception whose message raises an exception",
        """
class Mute(Exception):
    def __str__(self):
        raise Mute
    __repr__ = __str__
    __traceback__ = property(lambda self: None)

def KLD(mean, log_std):
    raise Mute
""",
    ),
    "a message that never ends": Attack(
        "take forever to produce an exception's message",
        "class Slow(Exception):\n    def __str__(self):\n        while True:\n            pass\n\n" + raising("Slow"),
    ),
    "a hostile class name": Attack(
        "put text into an exception's class name",
        raising('type("<script>alert(1)</script>\\\\x1b[31m" + "x" * 10000, (Exception,), {})("x")'),
    ),
    "warnings": Attack(
        "write to the terminal with warnings",
        "import warnings, sys, os\nfor _ in range(1000):\n    warnings.warn('\\x1b[31m<MARKER>-warning')\n"
        "print('\\x1b]0;owned\\x07', file=sys.__stderr__)\nos.write(2, b'\\x1b[31m<MARKER>-stderr')\n",
        everywhere=True,
    ),
    "hostile file names": Attack(
        "put text into file names",
        files={
            "part1_vae/<script>alert(1).py": "x = 1\n",
            "part1_vae/=cmd|calc.py": "x = 1\n",
            "logs/vae/run/\x1b[31mred.txt": "x",
            "part1_vae/\u202egnp.py": "x = 1\n",
        },
    ),
    "a hostile syntax error": Attack(
        "put text into a line that cannot be parsed",
        "x = = '<script>alert(\"<MARKER>-html\")</script> =1+1 \\x1b[31m'",
        everywhere=True,
    ),
    "nothing but nulls": Attack("submit a file that is not text", "\0" * 1000, everywhere=True),
}
