"""Runs the tests of this folder and sums up in one line."""

import sys
import unittest
from pathlib import Path


class Results(unittest.TextTestResult):
    def getDescription(self, test):
        test = getattr(test, "test_case", test)  # of a part of one
        return f"{type(test).__module__}: {test._testMethodName.removeprefix('test_').replace('_', ' ')}"


def main():
    names = sys.argv[1:] or sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("main", "project"))
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(resultclass=Results, verbosity=2, stream=sys.stdout).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
