"""A learner's file in a process of its own, so that nothing that is written there can hurt the check.

    with Isolated(path) as answers:
        outcome = answers.run(name, Call(arguments))

The process answers one call after another. A call that takes too long, ends the process, takes all memory or changes a
library for everybody costs that process only: what came of it is a sentence, and the next call gets a new process.
"""

import _thread
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

SECONDS = 10  # for one call
TOO_LONG = f"It was still running after {SECONDS} seconds. Does a loop never end?"
IMPORTING = 120  # PyTorch, on a slow disk
GIGABYTES = 4  # beyond what the libraries take
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Isolated:
    """The functions of a learner's file, called in another process."""

    def __init__(self, path):
        self.path, self.process, self.answers, self.ready = Path(path), None, None, False

    def __enter__(self):
        self.start()  # and do not wait: whoever calls it has PyTorch to import too
        return self

    def __exit__(self, *error):
        self.stop()

    def run(self, name, call):
        """The `Outcome` of one call of the function of that name."""
        from evaluating import Outcome

        if self.process is None:
            self.start()
        if not self.ready:
            self.wait()
        try:
            pickle.dump((name, call), self.process.stdin)
            self.process.stdin.flush()
            answer = self.answers.get(timeout=SECONDS)
        except queue.Empty:
            self.stop()
            return Outcome(problem=TOO_LONG, fatal=True)
        except OSError:
            answer = ENDED
        if answer is ENDED:
            self.stop()
            return Outcome(problem="It ended the whole process: by os._exit, a crash, or too much memory.", fatal=True)
        if isinstance(answer, str):  # a library that is no more what it was: never again this process
            self.stop()
            return Outcome(problem=answer, fatal=True)
        return answer

    def start(self):
        command = [sys.executable, str(Path(__file__).resolve()), str(self.path.resolve())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | THREADS
        )
        self.answers = queue.Queue()
        threading.Thread(target=listen, args=(self.process.stdout, self.answers), daemon=True).start()

    def wait(self):
        """Until the process has imported all. Raises ValueError if it cannot read the file, or does not start."""
        try:
            word = self.answers.get(timeout=IMPORTING)
        except queue.Empty:
            word = ENDED
        if word != "ready":
            self.stop()
            raise ValueError(word if isinstance(word, str) else "the process for your answers does not start")
        self.ready = True

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
        self.process, self.ready = None, False


ENDED = object()


def in_time(evaluate, answer, call):
    """evaluate(answer, call) in this process, where a notebook has its functions, with the same limit on time."""
    from evaluating import Outcome

    late = threading.Event()

    def interrupt():
        late.set()
        _thread.interrupt_main()

    timer = threading.Timer(SECONDS, interrupt)
    timer.daemon = True
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
    timer.start()
    try:
        return evaluate(answer, call)
    except KeyboardInterrupt:
        if not late.is_set():  # the learner's own Ctrl-C
            raise
        return Outcome(problem=TOO_LONG, fatal=True)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def listen(stream, answers):
    """Put what the process says into the queue, and ENDED when it says no more."""
    with contextlib.suppress(Exception):  # half a message, or none
        while True:
            answers.put(pickle.load(stream))
    answers.put(ENDED)


# --- The other process -----------------------------------------------------------------------------------------------


def serve(path):
    """Read calls and answer them, until there are no more."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what a learner's code prints or reads must not get between them
        os.dup2(nowhere, number)

    def say(answer):
        pickle.dump(answer, answers)
        answers.flush()

    from answers import Answers
    from evaluating import Outcome, evaluate

    try:
        file = Answers(Path(path))
    except (ValueError, OSError) as error:
        return say(str(error))
    limit_memory()
    before = libraries()
    say("ready")
    functions = {}
    while True:
        try:
            name, call = pickle.load(calls)
        except EOFError:
            return None
        if name not in functions:
            try:
                functions[name] = file.define(name)
            except ValueError as error:
                functions[name] = Outcome(problem=f"{str(error)[0].upper()}{str(error)[1:]}.")
        answer = functions[name]
        if not isinstance(answer, Outcome):
            answer = evaluate(answer, call) if callable(answer) else Outcome(problem=f"{name} is no function.")
        now = libraries()
        changed = [each for each, value in before.items() if now.get(each) is not value]
        say(
            f"It replaces {changed[0]}, which all code uses: give what is yours a name of its own."
            if changed
            else answer
        )


def limit_memory():
    """A few gigabytes more than there are now, where the system can do that."""
    try:
        import resource

        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = now + GIGABYTES * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        pass  # the time limit remains


def libraries():
    """What a learner's code might replace for everybody, by its name."""
    import builtins
    import math

    import numpy as np
    import torch

    found = {}
    for short, module in (("np", np), ("np.linalg", np.linalg), ("np.random", np.random), ("torch", torch)):
        found |= {f"{short}.{name}": value for name, value in vars(module).items() if callable(value)}
    for module in (math, builtins):
        found |= {f"{module.__name__}.{name}": value for name, value in vars(module).items() if callable(value)}
    return {name: value for name, value in found.items() if not name.startswith("builtins._")}


if __name__ == "__main__":
    serve(sys.argv[1])
