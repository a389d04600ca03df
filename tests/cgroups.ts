/**
 * The machine's control groups, as tests look at them: by what is mounted, without the program's eyes.
 *
 * @module
 */

/** A hierarchy that has a controller of ours. */
export interface ControllerMount {
  readonly folder: string;
  readonly controllers: readonly string[];
}

const wanted = ["memory", "pids", "cpu"];

function mounts(): readonly ControllerMount[] {
  return Deno.readTextFileSync("/proc/self/mounts").split("\n").flatMap((line) => {
    const [, folder = "", kind = "", options = ""] = line.split(" ");
    if (kind === "cgroup2") {
      const offered = Deno.readTextFileSync(`${folder}/cgroup.controllers`).trim().split(" ");
      return [{ folder, controllers: offered }];
    }
    return kind === "cgroup" ? [{ folder, controllers: options.split(",") }] : [];
  });
}

/** Where a limit can be had. */
export function controllerMounts(): readonly ControllerMount[] {
  return mounts()
    .map(({ folder, controllers }) => ({
      folder,
      controllers: controllers.filter((name) => wanted.includes(name)),
    }))
    .filter(({ controllers }) => controllers.length > 0);
}

/** The groups that a daemon of this runtime folder, or of any, has made. */
export function groupsLeft(runtimePath = ""): readonly string[] {
  const name = `appjail${runtimePath.replaceAll("/", "-")}`;
  return mounts().flatMap(({ folder }) =>
    namesIn(folder)
      .filter((one) => runtimePath === "" ? one.startsWith("appjail-") : one === name)
      .flatMap((one) => [
        `${folder}/${one}`,
        ...namesIn(`${folder}/${one}`).map((uid) => `${folder}/${one}/${uid}`),
      ])
  );
}

/** The groups in a group. */
function namesIn(folder: string): readonly string[] {
  try {
    return [...Deno.readDirSync(folder)].filter(({ isDirectory }) => isDirectory)
      .map(({ name }) => name);
  } catch {
    return []; // It went away meanwhile.
  }
}
