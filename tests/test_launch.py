"""What starts runs on other machines: scripts, the JobSet, sweeps. Nothing is started here."""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml

from deblur_jax.cli import serve
from deblur_jax.cli.parser import Parser

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = ('workstation.sh', 'slurm.sbatch', 'tpu_pod.sh')
BLUR = '--config.blur=shake(3..9) | noise(0.01)'
FLAGS = ('--config=configs/nafnet.py:smoke', BLUR, '--workdir=/shared/a run')


def call(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    ['bash', ROOT / 'launch' / script, *arguments],
    capture_output=True,
    text=True,
    env={**os.environ, 'TPU_NAME': 'pod', 'ZONE': 'here', 'PYTHON': 'python', **environment},
  )


def stand_in(tmp_path: pathlib.Path, name: str, text: str) -> None:
  """Writes a program with that name."""
  path = tmp_path / name
  path.write_text(f'#!/bin/sh\n{text}\n')
  path.chmod(0o755)


@pytest.fixture(scope='module')
def sweep():
  spec = importlib.util.spec_from_file_location('sweep', ROOT / 'tools/sweep.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('script', SCRIPTS)
def test_scripts_parse_and_print_the_command_that_they_would_run(script):
  subprocess.run(['bash', '-n', ROOT / 'launch' / script], check=True)
  done = call(script, '--dry-run', *FLAGS)
  assert done.returncode == 0, done.stderr
  command = shlex.split(done.stdout)
  if script == 'tpu_pod.sh':
    assert command[:7] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'pod', '--zone=here']
    assert command[7] == '--worker=all'
    start, _, rest = command[8].partition(' && ')
    assert start == '--command=cd deblur_jax'
    command = shlex.split(rest)
  started = command[command.index('-m') :]
  several = [] if script == 'workstation.sh' else ['--distributed']
  assert started == ['-m', 'deblur_jax.main', *several, *FLAGS]


@pytest.mark.parametrize('script', ['workstation.sh', 'tpu_pod.sh'])
def test_scripts_print_their_usage(script):
  done = call(script)
  assert done.returncode == 2 and f'launch/{script} [--dry-run] --config=' in done.stderr


def test_a_pod_needs_a_folder_that_all_hosts_see():
  done = call('tpu_pod.sh', '--dry-run', FLAGS[0])
  assert done.returncode == 2 and '--workdir' in done.stderr


@pytest.mark.parametrize('code, tries', [(0, 1), (1, 1), (143, 1), (134, 4)])
def test_a_workstation_restarts_only_after_a_crash(tmp_path, code, tries):
  stand_in(tmp_path, 'python', f'echo "$@" >> {tmp_path}/calls; exit {code}')
  stand_in(tmp_path, 'sleep', 'exit 0')
  path = f'{tmp_path}:{os.environ["PATH"]}'
  done = call('workstation.sh', *FLAGS, PATH=path, PYTHON=str(tmp_path / 'python'))
  assert done.returncode == code
  assert (tmp_path / 'calls').read_text() == f'-m deblur_jax.main {" ".join(FLAGS)}\n' * tries


@pytest.mark.parametrize(
  'code, restarts, requeued',
  [(0, 0, False), (1, 0, False), (143, 0, True), (134, 3, True), (134, 20, False)],
)
def test_slurm_queues_again_what_was_preempted_or_lost(tmp_path, code, restarts, requeued):
  stand_in(tmp_path, 'srun', f'exit {code}')
  stand_in(tmp_path, 'scontrol', f'echo "$@" > {tmp_path}/asked')
  path = f'{tmp_path}:{os.environ["PATH"]}'
  slurm = {'SLURM_JOB_ID': '4711', 'SLURM_RESTART_COUNT': str(restarts)}
  assert call('slurm.sbatch', *FLAGS, PATH=path, **slurm).returncode == code
  assert (tmp_path / 'asked').exists() == requeued
  if requeued:
    assert (tmp_path / 'asked').read_text() == 'requeue 4711\n'


def test_the_jobset_is_valid_and_its_numbers_agree():
  jobset = yaml.safe_load((ROOT / 'launch/gke_jobset.yaml').read_text())
  assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert jobset['spec']['failurePolicy']['maxRestarts'] > 0
  (group,) = jobset['spec']['replicatedJobs']
  job = group['template']['spec']
  assert group['replicas'] == 1 and job['completionMode'] == 'Indexed' and job['backoffLimit'] == 0
  pod = job['template']['spec']
  assert pod['restartPolicy'] == 'Never'
  (container,) = pod['containers']
  volumes = {volume['name'] for volume in pod['volumes']}
  assert {mount['name'] for mount in container['volumeMounts']} == volumes
  assert container['resources']['limits']['nvidia.com/gpu'] == 8
  flags = shlex.split(container['command'][-1])
  assert flags[:4] == ['exec', 'python', '-m', 'deblur_jax.main']
  name, port = jobset['metadata']['name'], container['ports'][0]['containerPort']
  # How JobSet names the pod of index 0: SET-GROUP-0-0.SET
  assert f'--coordinator={name}-{group["name"]}-0-0.{name}:{port}' in flags
  assert f'--processes={job["parallelism"]}' in flags
  assert job['parallelism'] == job['completions'] == 2
  assert '--process=$JOB_COMPLETION_INDEX' in flags


def test_a_sweep_has_a_run_for_each_combination(sweep, tmp_path):
  blurs = 'disk(1..3),shake(3..9, exposure=0.5) | noise(0.01)'
  runs = sweep.plan(
    'configs/nafnet.py', ['optim.learning_rate=1e-3,3e-4', f'blur={blurs}'], tmp_path
  )
  assert [run.settings for run in runs] == [
    {'optim.learning_rate': rate, 'blur': blur}
    for rate in ('1e-3', '3e-4')
    for blur in ('disk(1..3)', 'shake(3..9, exposure=0.5) | noise(0.01)')
  ]
  assert runs[1].command[1:-1] == [
    *('-m', 'deblur_jax.main', '--config=configs/nafnet.py'),
    *('--config.optim.learning_rate=1e-3', '--config.blur=shake(3..9, exposure=0.5) | noise(0.01)'),
  ]
  assert len({run.workdir for run in runs}) == 4
  assert all(run.workdir.parent == tmp_path for run in runs)


def test_sweeps_of_two_recipes_share_no_folder(sweep, tmp_path, capsys):
  folders = set()
  for config in ('configs/nafnet.py', 'configs/nafnet.py:smoke', 'configs/srcnn.py:smoke'):
    for workdir in ([], [f'--workdir={tmp_path}']):
      assert sweep.main([config, 'seed=0', '--dry-run', *workdir]) == 0
      folders.add(shlex.split(capsys.readouterr().out.splitlines()[0])[-1])
  assert len(folders) == 6
  assert '--workdir=runs/sweep-nafnet-smoke/seed=0' in folders
  assert f'--workdir={tmp_path}/sweep-nafnet-builtin/seed=0' in folders


@pytest.mark.parametrize(
  'settings, message',
  [
    (['steps'], 'NAME=VALUE'),
    (['steps=1,,2'], 'NAME=VALUE'),
    (['seed=1', 'seed=2'], 'twice'),
    (['data.directory=/a/b,/a_b'], 'two runs would share'),
  ],
)
def test_a_sweep_reports_what_is_wrong(sweep, capsys, settings, message):
  with pytest.raises(SystemExit):
    sweep.main(['configs/nafnet.py', *settings])
  assert message in capsys.readouterr().err


def test_a_sweep_from_a_file_as_a_slurm_array(sweep, tmp_path, capsys):
  (tmp_path / 'study').write_text('# Seeds.\nconfigs/nafnet.py:smoke\n\nseed=0,1,2\n')
  assert sweep.main([f'@{tmp_path}/study', '--dry-run']) == 0
  *commands, array = map(shlex.split, capsys.readouterr().out.splitlines())
  assert [command[-2] for command in commands] == [f'--config.seed={seed}' for seed in range(3)]
  assert array[:3] == ['sbatch', '--array=0-2', '--gpus=1']
  assert array[3].endswith(f'tools/sweep.py @{tmp_path}/study --index=$SLURM_ARRAY_TASK_ID')


def test_the_table_of_a_sweep_has_the_results_so_far(sweep, tmp_path, capsys):
  arguments = ['configs/srcnn.py:smoke', 'blur=disk(2) | jpeg,disk(3)', f'--workdir={tmp_path}']
  first, second = sweep.plan(*arguments[:1], arguments[1:2], tmp_path / 'sweep-srcnn-smoke')
  first.workdir.mkdir(parents=True)
  (first.workdir / 'metrics.jsonl').write_text(
    '{"step": 2, "loss": 0.25}\n{"step": 4, "loss": 0.125}\n{"step": 4, "builtin/psnr": 30}\n'
  )
  own = {'psnr': 30.123456, 'protocol': 'plain', 'weights': 'step 4 of 4, the latest'}
  scores = {'blurred': {'psnr': 20.0}, first.workdir.name: own}
  (first.workdir / 'results.json').write_text(json.dumps({'builtin': scores}))
  assert sweep.main([*arguments, '--table']) == 0
  assert capsys.readouterr().out.splitlines() == [
    '| blur | steps | loss | builtin psnr |',
    '| --- | ---: | ---: | ---: |',
    r'| disk(2) \| jpeg | 4 | 0.125 | 30.123 |',
    '| disk(3) |  |  |  |',
  ]
  assert not second.workdir.exists()


def test_a_sweep_continues_after_a_run_that_fails(sweep, tmp_path, capfd):
  runs = [
    run._replace(command=['sh', '-c', f'exit {code}'])
    for run, code in zip(
      sweep.plan('configs/srcnn.py', ['seed=0,1,2'], tmp_path), (0, 1, 0), strict=True
    )
  ]
  assert sweep.train(runs, tmp_path) == 1
  assert '2 of 3 runs done' in capfd.readouterr().out
  assert (tmp_path / 'table.md').read_text().count('\n') == 5
  assert sweep.train([runs[0], runs[1]._replace(command=['sh', '-c', 'exit 143'])], tmp_path) == 143


def test_containers_start_the_server_with_options_that_exist():
  docker = (ROOT / 'launch/serve.Dockerfile').read_text()
  entry = json.loads(docker[docker.index('ENTRYPOINT') + len('ENTRYPOINT') :])
  compose = yaml.safe_load((ROOT / 'launch/serve.compose.yaml').read_text())
  documents = list(yaml.safe_load_all((ROOT / 'launch/serve.kubernetes.yaml').read_text()))
  deployment, service, scaler = documents
  pod = deployment['spec']['template']['spec']
  (container,) = pod['containers']
  command_line = Parser()
  commands = command_line.add_subparsers(dest='command')
  serve.add(commands)
  for more in (compose['services']['deblur']['command'], container['args']):
    arguments = command_line.parse_args([*entry[1:], *more])
    assert arguments.host == '0.0.0.0' and arguments.keys
    assert pod['terminationGracePeriodSeconds'] > arguments.timeout + 10
  assert entry[0] == 'deblur-jax'
  assert compose['services']['deblur']['build']['dockerfile'] == 'launch/serve.Dockerfile'
  assert container['readinessProbe']['httpGet'] == {'path': '/readyz', 'port': 8000}
  assert container['livenessProbe']['httpGet'] == {'path': '/healthz', 'port': 8000}
  labels = deployment['spec']['template']['metadata']['labels']
  assert service['spec']['selector'] == labels == deployment['spec']['selector']['matchLabels']
  assert scaler['spec']['scaleTargetRef']['name'] == deployment['metadata']['name']
  extras = re.search(r"'\.\[(.*)\]'$", docker.split('RUN pip')[1].splitlines()[0])[1]
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert set(extras.split(',')) <= project['optional-dependencies'].keys()
