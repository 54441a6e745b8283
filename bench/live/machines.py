# SPDX-License-Identifier: GPL-2.0-only
"""Machines on which it was measured what a flush costs: files of bench/machine."""
import os

from runs import Refused, documents, find

HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                    'results', 'machines')
FIELDS = {'schema', 'kind', 'name', 'date', 'kernel', 'cpu_model', 'cpus', 'topology', 'swap',
          'virtual', 'points'}


def is_time(value):
    """A number that can be microseconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9


def check(machine, path):
    """The machine, which came from the path; refused unless it is complete."""
    if not isinstance(machine, dict) or machine.get('kind') != 'machine' or machine.get('schema') != 1:
        raise Refused(f'{path}: not a file of bench/machine: see its --help')
    missing = FIELDS - machine.keys()
    if missing:
        raise Refused(f'{path}: lacks {", ".join(sorted(missing))}: see bench/machine --help')
    points = machine['points'] if isinstance(machine['points'], list) else []
    for point in points:
        if not (isinstance(point, dict) and isinstance(point.get('others'), int)
                and isinstance(point.get('us_per_page'), list) and len(point['us_per_page']) == 3
                and all(map(is_time, point['us_per_page']))):
            raise Refused(f'{path}: a point needs others and us_per_page, three times: '
                          'see bench/machine --help')
    others = [point['others'] for point in points]
    if others[:1] != [0] or others != sorted(set(others)):
        raise Refused(f'{path}: points must begin with 0 others, and go up')
    return machine


def read(names):
    """All in these files and directories."""
    return [check(machine, path) for name in names for path in find(name)
            for machine in documents(path)]


def page_us(machine):
    """The limit of any batching: a page with no other CPU, the fastest round."""
    return machine['points'][0]['us_per_page'][0]


def ipi_us(machine):
    """What each other CPU adds: the slope from none to all.  None with one CPU."""
    last = machine['points'][-1]
    if not last['others']:
        return None
    return max(last['us_per_page'][0] - page_us(machine), 0) / last['others']


def table(found):
    """In Markdown."""
    yield ('| machine | CPUs | Linux | swap | page alone, us | page with all CPUs, us | '
           'each other CPU adds, us |')
    yield '| --- | --: | --- | --- | --: | --: | --: |'
    for machine in sorted(found, key=lambda machine: machine['name']):
        slope, last = ipi_us(machine), machine['points'][-1]['us_per_page'][0]
        yield (f'| {machine["name"]}: {machine["cpu_model"]}'
               f'{", virtual" if machine["virtual"] else ""} | {machine["cpus"]} | '
               f'{machine["kernel"]} | {machine["swap"]} | {page_us(machine):.1f} | {last:.1f} | '
               f'{"-" if slope is None else f"{slope:.1f}"} |')
