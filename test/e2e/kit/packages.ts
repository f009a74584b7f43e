import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './commands.js';
import type { Mirror } from './mirror.js';
import { Missing } from './missing.js';

const ATTEMPTS = 3;

/**
 * Debian packages of some suites, as apt sees them on a machine on which nothing is installed: a dependency is always part of what is
 * downloaded. Nothing of the host's apt is used but the program; nothing of the host is changed.
 */
export class PackageIndex {
  readonly #folder: string;
  readonly #options: readonly string[];
  readonly #address: string;

  private constructor(folder: string, mirror: Mirror, release: string) {
    this.#folder = folder;
    this.#address = mirror.address;
    const settings: Readonly<Record<string, string>> = {
      'Dir::Etc::sourcelist': join(folder, 'sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::Etc::preferences': '/dev/null',
      'Dir::Etc::preferencesparts': '/dev/null',
      'Dir::State': folder,
      'Dir::State::lists': join(folder, 'lists'),
      'Dir::State::status': join(folder, 'status'),
      'Dir::Cache': join(folder, 'cache'),
      'APT::Architecture': 'amd64',
      'APT::Architectures': 'amd64',
      'APT::Default-Release': release,
      'APT::Install-Recommends': 'false',
      'APT::Sandbox::User': 'root',
      'APT::Update::Error-Mode': 'any',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '3',
      'Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled': 'false',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
      'Debug::NoLocking': 'true',
    };
    this.#options = ['-q', ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])];
  }

  /** Reads the index of suites; `release` is the one whose versions are preferred. @throws Missing if the mirror cannot be reached or has no such suite. */
  static read(folder: string, mirror: Mirror, suites: readonly string[], release: string): PackageIndex {
    mkdirSync(join(folder, 'lists', 'partial'), { recursive: true });
    mkdirSync(join(folder, 'cache', 'archives', 'partial'), { recursive: true });
    writeFileSync(join(folder, 'status'), '');
    const lines = suites.map(
      (suite) => `deb [arch=amd64 signed-by=${mirror.keyring}] ${mirror.address} ${suite} main\n`,
    );
    writeFileSync(join(folder, 'sources.list'), lines.join(''));
    const index = new PackageIndex(folder, mirror, release);
    for (let attempt = 1; ; attempt += 1) {
      try {
        index.#apt('apt-get', 'update');
        return index;
      } catch (cause) {
        if (attempt === ATTEMPTS)
          throw new Missing(`the package index of ${suites.join(', ')}: ${String(cause)}`, { cause });
      }
    }
  }

  /** A field of the preferred version of a package; undefined if there is no such package or field. */
  field(name: string, field: string): string | undefined {
    try {
      const [fields] = this.#apt('apt-cache', 'show', '--no-all-versions', name).split('\n\n');
      return new RegExp(`^${field}: *(.*)$`, 'm').exec(fields ?? '')?.[1];
    } catch {
      return undefined; // why: apt-cache fails for a package that there is not
    }
  }

  /** Downloads packages with everything they depend on. @returns the files. @throws Missing when apt cannot. */
  closure(names: readonly string[]): string[] {
    this.#download('-y', '--download-only', 'install', ...names);
    const archives = join(this.#folder, 'cache', 'archives');
    return readdirSync(archives)
      .filter((name) => name.endsWith('.deb'))
      .map((name) => join(archives, name));
  }

  /** Downloads one package alone. @returns the file. @throws Missing when apt cannot. */
  one(name: string): string {
    const before = new Set(readdirSync(this.#folder));
    this.#download('download', name);
    const file = readdirSync(this.#folder).find((each) => each.endsWith('.deb') && !before.has(each));
    if (file === undefined) throw new Missing(`package ${name}`);
    return join(this.#folder, file);
  }

  #download(...args: readonly string[]): void {
    try {
      this.#apt('apt-get', ...args);
    } catch (cause) {
      throw new Missing(`packages: ${String(cause)}`, { cause });
    }
  }

  /** The mirror's address stays out of messages: it is this machine's. */
  #apt(program: string, ...args: readonly string[]): string {
    try {
      return run('env', ['-C', this.#folder, program, ...this.#options, ...args]).toString();
    } catch (cause) {
      throw new Error(
        String(cause)
          .replaceAll(this.#address, '(mirror)')
          .replace(/^Error: env -C \S+ /, ''),
      );
    }
  }
}
