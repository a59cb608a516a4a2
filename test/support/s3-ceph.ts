/** Ceph's object gateway from the system's packages: one monitor, one OSD on a sparse file, one gateway, all on loopback. */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from './free-ports.ts';
import { killPrograms, onPath, runProgram, startProgram } from './programs.ts';
import type { S3Server } from './s3-server.ts';
import { tempFolder } from './temp.ts';
import { until } from './until.ts';

const PROGRAMS = ['ceph', 'ceph-mon', 'ceph-osd', 'monmaptool', 'radosgw', 'radosgw-admin'];
const PACKAGES = ['ceph-common', 'ceph-mon', 'ceph-osd', 'radosgw'];
const KEYS = { accessKey: 'testkey', secretKey: 'testsecret' };
const START_MS_MAX = 90_000;

export async function startCeph(): Promise<S3Server | null> {
  if (!PROGRAMS.every(onPath) && !(await installed())) return null;
  const folder = tempFolder();
  const children: ChildProcess[] = [];
  const stop = async (): Promise<void> => {
    await killPrograms(children);
    folder.remove();
  };
  try {
    const endpoint = await startCluster(folder.path, children);
    return { name: "Ceph's object gateway", endpoint, region: 'us-east-1', ...KEYS, stop };
  } catch (cause) {
    await stop();
    throw cause;
  }
}

/** Installs the packages where that is possible; they start no service before one is configured. */
async function installed(): Promise<boolean> {
  if (process.getuid?.() !== 0 || !onPath('apt-get')) return false;
  process.stderr.write(`S3 server of the tests: installing ${PACKAGES.join(' ')} from the system's packages\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const lock = ['-o', 'DPkg::Lock::Timeout=300'];
  // Where another apt-get holds the lists, those that are there must do.
  await runProgram('apt-get', ['update', '-qq'], env).catch(() => undefined);
  await runProgram('apt-get', [...lock, 'install', '-y', '-qq', '--no-install-recommends', ...PACKAGES], env);
  return PROGRAMS.every(onPath);
}

async function startCluster(folder: string, children: ChildProcess[]): Promise<string> {
  const [gatewayPort = 0, v2Port = 0, v1Port = 0] = await freePorts(3);
  const file = (name: string): string => join(folder, name);
  const common = ['-c', file('ceph.conf')];
  const background = (program: string, ...args: string[]): void => {
    children.push(startProgram(program, [...common, ...args, '-f'], { logFile: file(`${program}.out`) }));
  };
  for (const name of ['mon', 'osd', 'gateway']) mkdirSync(file(name));
  const monitor = `[v2:127.0.0.1:${v2Port},v1:127.0.0.1:${v1Port}]`;
  const fsid = randomUUID();
  writeFileSync(file('ceph.conf'), settings({ folder, fsid, monitor, gatewayPort }));

  await runProgram('monmaptool', ['--create', '--addv', 'a', monitor, '--fsid', fsid, file('monmap')]);
  await runProgram('ceph-mon', [...common, '--mkfs', '-i', 'a', '--monmap', file('monmap')]);
  background('ceph-mon', '-i', 'a');
  const osd = randomUUID();
  await runProgram('ceph', [...common, '--connect-timeout', '30', 'osd', 'new', osd]);
  await runProgram('ceph-osd', [...common, '-i', '0', '--mkfs', '--osd-uuid', osd]);
  await runProgram('ceph', [...common, 'osd', 'crush', 'add', 'osd.0', '1.0', 'host=localhost', 'root=default']);
  background('ceph-osd', '-i', '0');
  const user = ['--uid=test', '--display-name=test', `--access-key=${KEYS.accessKey}`, `--secret=${KEYS.secretKey}`];
  await runProgram('radosgw-admin', [...common, 'user', 'create', ...user]);
  background('radosgw', '-n', 'client.admin');
  const endpoint = `http://127.0.0.1:${gatewayPort}`;
  await until(
    () =>
      fetch(endpoint).then(
        (answer) => answer.ok,
        () => false,
      ),
    "Ceph's object gateway to answer",
    START_MS_MAX,
  );
  return endpoint;
}

interface ClusterSettings {
  folder: string;
  fsid: string;
  monitor: string;
  gatewayPort: number;
}

/** One copy of everything, no authentication inside the cluster, no sockets for administrators: their paths would be too long. */
function settings({ folder, fsid, monitor, gatewayPort }: ClusterSettings): string {
  return `[global]
fsid = ${fsid}
mon host = ${monitor}
mon data = ${folder}/mon
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 2000
osd data = ${folder}/osd
osd objectstore = bluestore
osd memory target = 1073741824
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
bluestore block size = 21474836480
public network = 127.0.0.0/8
ms bind ipv6 = false
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
run dir = ${folder}
admin socket =
log file =
[client]
rgw data = ${folder}/gateway
rgw frontends = beast endpoint=127.0.0.1:${gatewayPort}
`;
}
