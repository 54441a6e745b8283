#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""bench/days on days that are made up.  TAP; run it with prove."""
import json
import pathlib
import subprocess
import tempfile

DAYS = pathlib.Path(__file__).resolve().parents[1] / 'days'
DONE = []


def check(name, got, want):
    """One TAP line; the difference as a comment."""
    DONE.append(name)
    print('ok' if got == want else 'not ok', len(DONE), '-', name)
    if got != want:
        print(f'# got  {got!r}\n# want {want!r}')


def row(metric, ratio, low, high, verdict):
    """A row of a report."""
    return {'metric': metric, 'better': 'none' if verdict in ('lower', 'higher') else 'lower',
            'ratio': ratio, 'low': low, 'high': high, 'verdict': verdict}


def day(directory, date, rows, **settings):
    """A directory of bench/pairs."""
    path = pathlib.Path(directory, date)
    path.mkdir()
    (path / 'env').write_text(f'# by hand\ndate={date}T00:00:00Z\nhost_cpu=a=b\nhost_cores=2\n'
                              'series=1\n', encoding='utf-8')
    report = {'scenario': 'test', 'kernels': {'patched': {'label': 'patched'}},
              'settings': settings, 'metrics': rows}
    (path / 'report.json').write_text(json.dumps([report]), encoding='utf-8')
    return path


def days(*names):
    """Its output in lines, or the refusal."""
    result = subprocess.run([DAYS, *names], capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else result.stdout.splitlines()


def main():
    """All of it."""
    with tempfile.TemporaryDirectory() as tmp:
        one = day(tmp, '2026-01-01', [
            row('same', 0.5, 0.4, 0.6, 'better'),
            row('apart', 0.5, 0.4, 0.6, 'better'),
            row('once', 0.5, 0.4, 1.6, 'no difference shown'),
            row('worse', 2, 1.5, None, 'worse'),
            row('neither', 2, 1.5, 3, 'higher')], RATE=10)
        two = day(tmp, '2026-01-02', [
            row('same', 0.25, 0.2, 0.5, 'better'),
            row('apart', 0.8, 0.7, 0.9, 'better'),
            row('once', 0.5, 0.4, 0.6, 'better'),
            row('worse', None, 1.5, None, 'worse'),
            row('neither', 1, 0.5, 3, 'no difference shown')], RATE=20)
        check('two days', days(one, two), [
            '- 2026-01-01T00:00:00Z: a=b, 2 cores, series 1',
            '- 2026-01-02T00:00:00Z: a=b, 2 cores, series 1',
            '',
            'Of 4 metrics 2 are better on all days, 1 on some; 1 are worse on all days, 0 on some.',
            'The ratios of one that is better on all days differ by a factor of 1.8 (median), '
            '2 at most.',
            'The intervals of 1 are apart. A star is for what differs from base.',
            '',
            '| scenario | metric | 2026-01-01 | 2026-01-02 | better is | intervals |',
            '| --- | --- | --- | --- | --- | --- |',
            '| test | apart | 0.5 (0.4 .. 0.6) * | 0.8 (0.7 .. 0.9) * | lower | apart |',
            '| test | once | 0.5 (0.4 .. 1.6) | 0.5 (0.4 .. 0.6) * | lower |  |',
            '| test | worse | 2 (1.5 .. inf) * | inf (1.5 .. inf) * | lower |  |',
            '',
            'Settings that were not the same:',
            '',
            '- test: RATE 10 and 20'])
        other = day(tmp, '2026-01-03', [])
        check('nothing in common', days(one, other),
              'days: nothing in common: give runs of the same scenarios and kernels\n')
        check('no such directory', days(one, 'nowhere').startswith('days: '), True)
    print(f'1..{len(DONE)}')


if __name__ == '__main__':
    main()
