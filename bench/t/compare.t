#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""bench/compare against numbers worked out by hand.  TAP; run it with prove."""
import json
import os
import pathlib
import subprocess
import tempfile

COMPARE = pathlib.Path(__file__).resolve().parents[1] / 'compare'
DONE = []


def check(name, got, want):
    """One TAP line; the difference as a comment."""
    DONE.append(name)
    print('ok' if got == want else 'not ok', len(DONE), '-', name)
    if got != want:
        print(f'# got  {got!r}\n# want {want!r}')


def run_file(directory, name, values, **changes):
    """Write a run that measured values, {metric: number}, into the directory."""
    run = {'schema': 1, 'scenario': 'test', 'valid': True, 'invalid_reason': '',
           'kernel': {'release': '7.3', 'version': '#1', 'label': name[0], 'config_sha256': 'c'},
           'env': {'date': f'2026-01-01T00:00:{name[1:]}Z', 'cpus': 2, 'host_cpus': 2,
                   'mem_mib': 1024, 'swap': 'zram', 'accel': 'tcg'},
           'settings': {'DURATION': 15},
           'metrics': {metric: {'value': value, 'unit': 's', 'better': 'lower'}
                       for metric, value in values.items()}}
    for key, value in changes.items():
        if isinstance(value, dict):
            run[key].update(value)
        else:
            run[key] = value
    path = pathlib.Path(directory, name + '.json')
    path.write_text(json.dumps(run), encoding='utf-8')
    return path


def compare(directory, *options, base='b*.json', patched='p*.json'):
    """Run the comparer on files of the directory."""
    return subprocess.run([COMPARE, os.path.join(directory, base),
                           os.path.join(directory, patched), *options],
                          capture_output=True, text=True, check=False)


def row(base, patched, better='lower'):
    """What the comparer makes of the values of one metric."""
    with tempfile.TemporaryDirectory() as directory:
        about = {'metrics': {}}
        for side, values in (('b', base), ('p', patched)):
            for index, value in enumerate(values, 10):
                about['metrics'] = {'x': {'value': value, 'unit': 's', 'better': better}}
                run_file(directory, f'{side}{index}', {}, **about)
        result = compare(directory, '--json', f'{directory}/out')
        if result.returncode:
            return result.stderr
        report = json.loads(pathlib.Path(directory, 'out').read_text(encoding='utf-8'))[0]
        line = report['metrics'][0]
        return (line['base'], line['patched'], line['ratio'], line['low'], line['high'],
                report['confidence'], line['verdict'])


def numbers():
    """Medians, ratios and intervals."""
    check('five pairs: the interval is the whole range and covers 1 - 2/32',
          row([8, 8, 8, 8, 8], [4, 2, 6, 5, 1]),
          (8, 4, 0.5, 0.125, 0.75, 0.9375, 'better'))
    check('ratios are of pairs, not of medians: 2/1, 2/2, 8/4, 2/8, 16/16',
          row([1, 2, 4, 8, 16], [2, 2, 8, 2, 16]),
          (4, 2, 1.0, 0.25, 2.0, 0.9375, 'no difference shown'))
    check('no effect', row([3] * 5, [3] * 5),
          (3, 3, 1.0, 1.0, 1.0, 0.9375, 'no difference shown'))
    check('an outlier widens the interval and leaves the median alone',
          row([2] * 5, [1, 1, 1, 1, 200]),
          (2, 1, 0.5, 0.5, 100.0, 0.9375, 'no difference shown'))
    check('six pairs: the whole range, 1 - 2/64; the middle is a geometric mean',
          row([4] * 6, [1, 1, 1, 4, 4, 4]),
          (4, 2.5, 0.5, 0.25, 1.0, 0.96875, 'no difference shown'))
    check('nine pairs: second to eighth, 1 - 20/512; one outlier does no harm',
          row([4] * 9, [1, 2, 2, 2, 2, 2, 3, 3, 99]),
          (4, 2, 0.5, 0.5, 0.75, 1 - 20 / 512, 'better'))
    check('eight pairs: the whole range, for the second to seventh cover 93 %',
          row([4] * 8, [1, 2, 2, 2, 2, 3, 3, 99])[3:6], (0.25, 24.75, 1 - 2 / 256))
    check('more is better', row([1] * 5, [2] * 5, 'higher')[-1], 'better')
    check('more is worse', row([1] * 5, [2] * 5)[-1], 'worse')
    check('more is neither', row([1] * 5, [2] * 5, 'none')[-1], 'higher')
    check('four pairs are too few', row([1] * 4, [2] * 4),
          (1, 2, 2.0, 2.0, 2.0, 0.875, 'too few pairs'))
    check('one pair covers nothing', row([1], [2])[5:], (0.0, 'too few pairs'))


def noughts():
    """Counts of nought."""
    check('patched is nought', row([5] * 5, [0] * 5), (5, 0, 0.0, 0.0, 0.0, 0.9375, 'better'))
    check('both are nought', row([0] * 5, [0] * 5),
          (0, 0, 1.0, 1.0, 1.0, 0.9375, 'no difference shown'))
    check('base is nought', row([0] * 5, [5] * 5),
          (0, 5, None, None, None, 0.9375, 'worse'))
    check('ratios of nought and infinity have no middle but 1', row([0, 1], [1, 0])[2:5],
          (1.0, 0.0, None))


def output():
    """The table and the files; the order of time."""
    with tempfile.TemporaryDirectory() as directory:
        # File names against the order of time: pairs are 4/2, 8/4.
        run_file(directory, 'b10', {'a': 2}, env={'date': '2026-01-01T01'})
        run_file(directory, 'b11', {'a': 4}, env={'date': '2026-01-01T02'})
        run_file(directory, 'p10', {'a': 8}, env={'date': '2026-01-01T04'})
        run_file(directory, 'p11', {'a': 4}, env={'date': '2026-01-01T03'})
        result = compare(directory, '--markdown', f'{directory}/out.md')
        check('pairs go by time', ' '.join(result.stdout.splitlines()[-1].split()),
              'a s 3 6 2 2 .. 2 lower too few pairs')
        check('status 0', result.returncode, 0)
        text = pathlib.Path(directory, 'out.md').read_text(encoding='utf-8')
        check('Markdown', '| a | s | 3 | 6 | 2 | 2 .. 2 | lower | too few pairs |' in text, True)
        check('no note where there is a core for each vCPU', 'mean nothing' in result.stdout, False)
        for name in ('b10', 'b11', 'p10', 'p11'):
            run_file(directory, name, {'a': 1}, env={'cpus': 4})
        check('more vCPUs than cores: says that times mean nothing',
              '4 vCPUs on 2 host cores' in compare(directory).stdout, True)
    with tempfile.TemporaryDirectory() as directory:
        for side in 'bp':
            os.mkdir(f'{directory}/{side}')
            for scenario in ('one', 'two'):
                run_file(f'{directory}/{side}', f'{side}10', {'a': 1}, scenario=scenario).rename(
                    f'{directory}/{side}/{scenario}.json')
        result = compare(directory, base='b', patched='p')
        check('directories; a table for each scenario',
              (result.returncode, 'one:' in result.stdout, 'two:' in result.stdout),
              (0, True, True))


def refused(name, words, *changes, patched=None):
    """Two runs, each changed, must be refused with one line that has the words."""
    with tempfile.TemporaryDirectory() as directory:
        for run, change in zip(('b10', 'p10', 'p11'), changes):
            run_file(directory, run, **{'values': {'a': 1}, **change})
        result = compare(directory, patched=patched or 'p*.json')
        check(name, (result.returncode, result.stdout, words in result.stderr,
                     result.stderr.count('\n')), (1, '', True, 1))


def refusals():
    """What cannot be compared."""
    refused('no file', 'no such run', {}, {}, patched='q*.json')
    refused('an invalid run', 'invalid run: OOM', {},
            {'valid': False, 'invalid_reason': 'OOM'})
    refused('other numbers of runs', '1 base and 2 patched', {}, {}, {})
    refused('other scenarios', 'same scenarios', {}, {'scenario': 'other'})
    refused('another number of CPUs', 'cpus is 4', {}, {'env': {'cpus': 4}})
    refused('another accelerator', 'accel is kvm', {}, {'env': {'accel': 'kvm'}})
    refused('other settings', 'DURATION is 5', {}, {'settings': {'DURATION': 5}})
    refused('another metric', 'measured in some runs only', {}, {'values': {'a': 1, 'b': 1}})
    refused('two kernels on one side', 'kernel label', {}, {}, {'kernel': {'label': 'q'}})
    refused('another schema', 'schema 1', {}, {'schema': 2})
    refused('a metric without a value', 'fields of schema 1', {},
            {'values': {}, 'metrics': {'a': {}}})
    with tempfile.TemporaryDirectory() as directory:
        run_file(directory, 'b10', {'a': 1})
        path = run_file(directory, 'p10', {'a': 1})
        path.write_text(path.read_text(encoding='utf-8')[:-20], encoding='utf-8')
        result = compare(directory, '--json', f'{directory}/out')
        check('a truncated file', (result.returncode, 'cannot be read' in result.stderr,
                                   os.path.exists(f'{directory}/out')), (1, True, False))


numbers()
noughts()
output()
refusals()
print(f'1..{len(DONE)}')
