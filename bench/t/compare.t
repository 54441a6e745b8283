#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""bench/compare against numbers worked out by hand.  TAP; run it with prove."""
import json
import math
import os
import pathlib
import random
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


def compare(directory, *options, base='b*.json', patched='p*.json', others=()):
    """Run the comparer on files of the directory."""
    names = [os.path.join(directory, name) for name in (base, patched, *others)]
    return subprocess.run([COMPARE, *names, *options], capture_output=True, text=True,
                          check=False)


def reports(directory, **sides):
    """What it writes as JSON, or the refusal."""
    out = pathlib.Path(directory, 'out')
    result = compare(directory, '--json', out, **sides)
    return result.stderr if result.returncode else json.loads(out.read_text(encoding='utf-8'))


def metric(value, better='lower'):
    """A metric of a run."""
    return {'value': value, 'unit': 's', 'better': better}


def row(base, patched, better='lower', shown=('base', 'patched', 'ratio', 'low', 'high')):
    """What the comparer makes of the values of one metric: figures, confidence, verdict."""
    with tempfile.TemporaryDirectory() as directory:
        for side, values in (('b', base), ('p', patched)):
            for index, value in enumerate(values, 10):
                run_file(directory, f'{side}{index}', {}, metrics={'x': metric(value, better)})
        report = reports(directory)
        if isinstance(report, str):
            return report
        line = report[0]['metrics'][0]
        figures = [line[key] if line[key] is None else round(line[key], 6) for key in shown]
        return (*figures, report[0]['confidence'], line['verdict'])


def powers(*exponents):
    """Powers of two, whose geometric means are easy."""
    return [2 ** exponent for exponent in exponents]


def numbers():
    """Medians, ratios and intervals."""
    check('five pairs: the interval is the whole range and covers 1 - 2/32',
          row([8] * 5, [1, 2, 2, 2, 4]), (8, 2, 0.25, 0.125, 0.5, 0.9375, 'better'))
    check('ratios are of pairs, not of medians: 2/1, 2/2, 8/4, 2/8, 16/16',
          row([1, 2, 4, 8, 16], [2, 2, 8, 2, 16]),
          (4, 2, 1.0, 0.25, 2.0, 0.9375, 'no difference shown'))
    check('the ratio is the median of the means of two: 2^-1.5, not 2^-1',
          row(powers(3, 3, 3, 3, 3), powers(0, 1, 2, 2, 2))[2], round(2 ** -1.5, 6))
    check('no effect', row([3] * 5, [3] * 5),
          (3, 3, 1.0, 1.0, 1.0, 0.9375, 'no difference shown'))
    check('six pairs: the whole range, 1 - 2/64; the middle is a geometric mean',
          row([4] * 6, [1, 1, 1, 4, 4, 4]),
          (4, 2.5, 0.5, 0.25, 1.0, 0.96875, 'no difference shown'))
    check('eight pairs: three means less at either end, 1 - 10/256',
          row([8] * 8, powers(0, 1, 1, 1, 1, 1, 1, 2))[2:6],
          (0.25, round(2 ** -2.5, 6), round(2 ** -1.5, 6), 1 - 10 / 256))
    check('more is better', row([1] * 5, [2] * 5, 'higher')[-1], 'better')
    check('more is worse', row([1] * 5, [2] * 5)[-1], 'worse')
    check('more is neither', row([1] * 5, [2] * 5, 'none')[-1], 'higher')
    check('four pairs are too few', row([1] * 4, [2] * 4),
          (1, 2, 2.0, 2.0, 2.0, 0.875, 'too few pairs'))
    check('one pair covers nothing', row([1], [2])[5:], (0.0, 'too few pairs'))


def outliers():
    """One pair that is off, for the worse."""
    check('five pairs: it widens the interval and leaves the ratio alone',
          row([2] * 5, [1, 1, 1, 1, 200]),
          (2, 1, 0.5, 0.5, 100.0, 0.9375, 'no difference shown'))
    check('twelve pairs: 12 of the 13 means left out have it; it does no harm',
          row([2] * 12, [1] * 11 + [128]),
          (2, 1, 0.5, 0.5, 0.5, 1 - 2 * 87 / 4096, 'better'))
    check('eleven pairs: one of its 11 means is left',
          row([2] * 11, [1] * 10 + [128])[4:], (round(2 ** 2.5, 6), 1 - 2 * 43 / 2048,
                                                'no difference shown'))


def rank_tests():
    """p against tables of the signed-rank test."""
    def p(*differences):
        return row([1] * len(differences), [1.1 ** d for d in differences], shown=['p'])[0]

    check('p of six pairs, all above: 2/64', p(1, 2, 3, 4, 5, 6), 0.03125)
    check('p of six pairs, the least below: 4/64', p(-1, 2, 3, 4, 5, 6), 0.0625)
    check('p of ten pairs, W = 8: 50/1024', p(1, 2, 3, 4, 5, 6, 7, -8, 9, 10),
          round(50 / 1024, 6))
    check('p of ten pairs, W = 27, its mean: 1',
          p(1, 2, 3, 4, -5, -6, -7, -9, 8, 10) > 0.9, True)
    check('p where nothing differs', p(0, 0, 0, 0, 0, 0), 1.0)
    # The exact test has 0.0512.
    check('p of 60 pairs, W = 650: 2 F((650.5 - 915) / 135.84), the normal approximation',
          round(p(*(-d if d == 45 or d > 49 else d for d in range(1, 61))), 4), 0.0515)


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
        run_file(directory, 'b11', {'a': 4}, env={'date': '2026-01-01T03'})
        run_file(directory, 'p10', {'a': 8}, env={'date': '2026-01-01T04'})
        run_file(directory, 'p11', {'a': 4}, env={'date': '2026-01-01T02'})
        result = compare(directory, '--markdown', f'{directory}/out.md')
        check('pairs go by time', ' '.join(result.stdout.splitlines()[-1].split()),
              'a s 3 6 2 2 .. 2 0.5 100 % lower too few pairs')
        check('status 0', result.returncode, 0)
        text = pathlib.Path(directory, 'out.md').read_text(encoding='utf-8')
        check('Markdown', '| a | s | 3 | 6 | 2 | 2 .. 2 | 0.5 | 100 % | lower | too few pairs |'
              in text, True)
        check('no note where there is a core for each vCPU', 'mean nothing' in result.stdout, False)
        check('no note where kernels took turns', 'turns' in result.stdout, False)
        run_file(directory, 'p11', {'a': 4}, env={'date': '2026-01-01T05'})
        check('two p after the last b: says that they did not take turns',
              'did not take turns' in compare(directory).stdout, True)
        for name in ('b10', 'b11', 'p10', 'p11'):
            run_file(directory, name, {'a': 1}, env={'cpus': 4}, question='no-regression')
        result = compare(directory)
        check('more vCPUs than cores: says that times mean nothing',
              '4 vCPUs on 2 host cores' in result.stdout, True)
        check('what the scenario asks', 'question: no-regression' in result.stdout, True)
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


def three_kernels():
    """Several kernels side by side, each compared with base."""
    with tempfile.TemporaryDirectory() as directory:
        for index in range(10, 16):
            run_file(directory, f'b{index}', {'a': 8, 'pages': 512})
            run_file(directory, f'p{index}', {'a': 2, 'pages': 512})
            run_file(directory, f'q{index}', {'a': 16, 'pages': 512})
        result = compare(directory, '--markdown', f'{directory}/md', '--changelog',
                         f'{directory}/log', others=['q*.json'])
        lines = [line.split() for line in result.stdout.splitlines()]
        check('three kernels: the medians', lines[5:7],
              [['metric', 'unit', 'base', 'p', 'q', 'better', 'is'],
               ['a', 's', '8', '2', '16', 'lower']])
        check('three kernels: ratio and interval of each', ' '.join(lines[7]),
              'ratio 1 0.25 (0.25 .. 0.25) 2 (2 .. 2)')
        check('three kernels: noise of base, verdict and p of each', ' '.join(lines[8]),
              'verdict, p noise 0 % better, 0.031 worse, 0.031')
        text = pathlib.Path(directory, 'md').read_text(encoding='utf-8')
        check('three kernels: Markdown',
              '|  | ratio | 1 | 0.25 (0.25 .. 0.25) | 2 (2 .. 2) |  |' in text, True)
        text = pathlib.Path(directory, 'log').read_text(encoding='utf-8')
        check('three kernels: changelog', [line.split() for line in text.splitlines()][2:6],
              [['base', 'p', 'q'], ['a,', 's', '8', '2', '16'],
               ['ratio', '0.250', '*', '2.000', '*'],
               ['96.88', '%', '0.250', '..', '0.250', '2.000', '..', '2.000']])
        found = reports(directory, others=['q*.json'])
        check('three kernels: a report for each in JSON',
              [(report['kernels']['patched']['label'], report['metrics'][0]['ratio'])
               for report in found], [('p', 0.25), ('q', 2.0)])
        run_file(directory, 'q15', {'a': 16, 'pages': 512}, env={'accel': 'kvm'})
        check('three kernels: one of another machine is refused',
              'accel is kvm' in reports(directory, others=['q*.json']), True)


def changelog():
    """Plain text, 75 columns wide."""
    with tempfile.TemporaryDirectory() as directory:
        long = 'madvise_tlb_ipis_per_page'
        others = ['p*.json', 'q*.json', 'r*.json', 's*.json', 't*.json']
        for index in range(10, 16):
            for side, value in zip('bpqrst', (123456789, 1234567, 5, 6, 7, 123456789)):
                run_file(directory, f'{side}{index}', {long: value, 'a': 8})
        log = pathlib.Path(directory, 'log')
        compare(directory, '--changelog', log)
        lines = log.read_text(encoding='utf-8').splitlines()
        check('changelog: a line for each metric', [' '.join(line.split()) for line in lines[3:5]],
              [f'{long}, s 123456789 1234567 0.01 * 0.01 .. 0.01', 'a, s 8 8 1.000 1.000 .. 1.000'])
        check('changelog: says what a star is', 'no difference is shown' in lines[-1], True)
        compare(directory, '--changelog', log, patched='p*.json', others=others[1:])
        lines = log.read_text(encoding='utf-8').splitlines()
        check('changelog: six kernels make three tables, each with base',
              [line.split() for line in lines[:-1] if 'base' in line],
              [['base', 'p', 'q'], ['base', 'r'], ['base', 's', 't']])
        check('changelog: 75 columns', max(map(len, lines)) <= 75, True)


def series(directory, name, runs):
    """A file of runs, one after the other, each {metric: number}, a second apart."""
    with open(f'{directory}/{name}.json', 'w', encoding='utf-8') as file:
        for index, values in enumerate(runs):
            path = run_file(directory, 'x00', {}, kernel={'label': name[0]},
                            env={'date': f'2026-01-01T{index:06}'},
                            metrics={key: metric(value) for key, value in values.items()})
            file.write(path.read_text(encoding='utf-8'))
            path.unlink()


def synthetic(seed, pairs, metrics, factor, noise=0.05):
    """The rows of so many metrics, each noisy, the other kernel's times a factor."""
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        for side, times in (('b', 1), ('p', factor)):
            series(directory, side, [{f'm{nr}': 100 * times * math.exp(source.gauss(0, noise))
                                      for nr in range(metrics)} for _ in range(pairs)])
        return reports(directory)[0]['metrics']


def shown(lines):
    """The share of rows where a difference is shown, in percent."""
    return 100 * sum(line['verdict'] != 'no difference shown' for line in lines) / len(lines)


def noisy():
    """A noise of 5 % in each run, of which the truth is known."""
    lines = synthetic(1, 6, 400, 1)
    check('no effect, six pairs: 3.1 % of 400 are said to differ', 1 < shown(lines) < 6, True)
    lines = synthetic(2, 12, 400, 1)
    check('no effect, twelve pairs: 4.2 % of 400', 2 < shown(lines) < 7, True)
    lines = synthetic(3, 6, 1, 0.99)
    check('1 % of effect, six pairs: no difference shown', lines[0]['verdict'],
          'no difference shown')
    lines = synthetic(3, 6, 400, 0.99)
    check('1 % of effect, six pairs: of 400 next to none shown', shown(lines) < 8, True)
    covered = sum(line['low'] <= 0.99 <= line['high'] for line in lines) / 4
    check('the intervals cover the truth: 96.88 % of 400', 94 < covered < 99, True)
    line = synthetic(4, 1200, 1, 0.99)[0]
    check('1 % of effect, 1200 pairs: better', line['verdict'], 'better')
    check('and by how much', (line['low'] < 0.99 < line['high'], line['high'] - line['low'] < 0.02),
          (True, True))
    lines = synthetic(5, 6, 100, 0.5)
    check('half the time, six pairs: all of 100 better',
          all(line['verdict'] == 'better' for line in lines), True)
    # Two runs differ by a normal factor of 5 % times the root of 2; its median is 0.6745 of that.
    check('noise of base: 4.8 %', 0.044 < synthetic(6, 300, 1, 1)[0]['noise'] < 0.052, True)


def base_against_base():
    """A second set of base runs."""
    with tempfile.TemporaryDirectory() as directory:
        source = random.Random(7)
        for side in 'bcp':
            for index in range(10, 22):
                value = 10 * math.exp(source.gauss(0, 0.05)) / (2 if side == 'p' else 1)
                run_file(directory, f'{side}{index}', {'a': value},
                         kernel={'label': side.replace('c', 'b')})
        result = compare(directory, patched='c*.json', others=['p*.json'])
        check('base against base: says so', 'Base against base (both are b)' in result.stdout, True)
        check('base against base: its column', result.stdout.splitlines()[6].split(),
              ['metric', 'unit', 'base', 'b', 'p', 'better', 'is'])
        verdicts = [report['metrics'][0]['verdict']
                    for report in reports(directory, patched='c*.json', others=['p*.json'])]
        check('base against base: no difference shown, patched is better', verdicts,
              ['no difference shown', 'better'])


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
        path.write_text('', encoding='utf-8')
        check('an empty file', 'p10.json: cannot be read' in reports(directory), True)
    with tempfile.TemporaryDirectory() as directory:
        series(directory, 'b', [{'a': 1}] * 3)
        series(directory, 'p', [{'a': 1}] * 3)
        check('runs one after the other in a file', reports(directory)[0]['pairs'], 3)
        path = pathlib.Path(directory, 'p.json')
        path.write_text(path.read_text(encoding='utf-8')[:-20], encoding='utf-8')
        check('such a file, truncated', 'p.json: cannot be read' in reports(directory), True)
        series(directory, 'p', [{'a': 1}] * 2)
        check('a missing run', '3 base and 2 patched runs' in reports(directory), True)
        series(directory, 'p', [{'a': 1}] * 3)
        series(directory, 'q', [{'a': 1}] * 2)
        check('a missing run of the third kernel, by its name',
              f'3 base and 2 {directory}/q.json runs' in
              reports(directory, patched='p.json', others=['q.json']), True)


numbers()
outliers()
rank_tests()
noughts()
output()
three_kernels()
changelog()
noisy()
base_against_base()
refusals()
print(f'1..{len(DONE)}')
