# SPDX-License-Identifier: GPL-2.0-only
"""Reading what bench/run wrote, for the scripts of this directory."""
import glob
import json
import os

FIELDS = {'scenario', 'valid', 'kernel', 'env', 'settings', 'metrics'}


class Refused(Exception):
    """What was given cannot be used; the text, one line, says why."""


def find(name, endings=('.json',)):
    """The files that an argument names: a file, a directory or a pattern."""
    if os.path.isdir(name):
        files = glob.glob(os.path.join(glob.escape(name), '**', '*'), recursive=True)
        files = [file for file in files if file.endswith(endings)]
    else:
        files = glob.glob(name, recursive=True)
    if not files:
        raise Refused(f'{name}: no such run: name a file, a directory or a pattern')
    return sorted(files)


def parse(text, origin):
    """What a text has in JSON, one after the other; the origin is for the refusal."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    try:
        while text or not found:
            document, end = decoder.raw_decode(text)
            found.append(document)
            text = text[end:].lstrip()
    except ValueError as error:
        raise Refused(f'{origin}: cannot be read as JSON: {error}') from None
    return found


def documents(path):
    """The same of a file."""
    try:
        with open(path, encoding='utf-8') as file:
            return parse(file.read(), path)
    except (OSError, ValueError) as error:
        raise Refused(f'{path}: cannot be read as JSON: {error}') from None


def check(run, path):
    """The run, which came from the path; refused unless it is complete and valid."""
    if not isinstance(run, dict) or run.get('schema') != 1:
        raise Refused(f'{path}: not a run of schema 1')
    missing = FIELDS - run.keys()
    if missing:
        raise Refused(f'{path}: lacks {", ".join(sorted(missing))}')
    if run['valid'] is not True:
        raise Refused(f'{path}: invalid run: {run.get("invalid_reason")}')
    run['path'] = path
    return run


def load(path):
    """The runs in a file: one, or as many as bench/sweep puts there."""
    return [check(run, path) for run in documents(path)]


def swap_of(run):
    """The kind of swap of a run or report: zram, disk or the like, or zswap in front of it."""
    return 'zswap' if run['env'].get('zswap') == 'Y' else run['env']['swap']


def write(path, content):
    """All of the file or none of it."""
    with open(path + '.tmp', 'w', encoding='utf-8') as file:
        file.write(content)
    os.replace(path + '.tmp', path)
