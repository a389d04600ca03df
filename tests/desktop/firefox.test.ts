/** Firefox, as Debian has it, with the profile that comes with the program. */
import assert from "node:assert/strict";
import { readText } from "../../core/kernel.ts";
import { type Desk, deskTest, withProfiles } from "./desk.ts";
import { coloursOf, readPng } from "./picture.ts";
import { filtersOf } from "./sandbox.ts";
import { appProcesses, firstUid, uA, until } from "../jail/world.ts";

const green = 0x00c040;

/** Pages on the loopback device, which tell who has asked for them. */
function serve(asked: string[]): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    asked.push(pathname);
    if (pathname === "/file.bin") {
      return new Response("what was downloaded", {
        headers: {
          "content-type": "application/octet-stream",
          "content-disposition": "attachment",
        },
      });
    }
    const body = `<!doctype html><title>page</title><body style="background:#00c040">`;
    return new Response(body, { headers: { "content-type": "text/html" } });
  });
}

/** The processes of Firefox in the jail: its main ones, and those that show what is in a page. */
function firefoxes(): { readonly main: readonly number[]; readonly content: readonly number[] } {
  const found = appProcesses(firstUid).map((pid) => ({
    pid,
    // What it forks has its words joined by spaces.
    words: (readText(`/proc/${pid}/cmdline`) ?? "").split(/[\0 ]/),
  })).filter(({ words: [program = ""] }) => /(?:^|\/)firefox(?:-esr|-bin)?$/.test(program));
  const isContent = ({ words }: (typeof found)[number]): boolean => words.includes("-contentproc");
  return {
    main: found.filter((one) => !isContent(one)).map(({ pid }) => pid),
    content: found.filter((one) => isContent(one) && one.words.includes("tab"))
      .map(({ pid }) => pid),
  };
}

async function isOwners(path: string): Promise<void> {
  const { uid, isFile } = await Deno.lstat(path);
  assert.deepEqual([uid, isFile], [uA, true]);
}

async function downloads(desk: Desk): Promise<string> {
  await desk.done("mkdir", "-p", "Downloads");
  return `${desk.folder}/Downloads`;
}

const programs = ["firefox-esr", "weston", "dbus-daemon", "xdg-dbus-proxy"];

deskTest("Firefox", programs, withProfiles({}), async (t, world, desk) => {
  await desk.sessionBus();
  await desk.compositor();
  const folder = await downloads(desk);
  const asked: string[] = [];
  const server = serve(asked);
  const page = (name: string): string => `http://127.0.0.1:${server.addr.port}/${name}`;
  const run = (...words: readonly string[]) =>
    world.client(["run", ...words], { uid: uA, env: desk.env });
  try {
    await t.step("without a window, it shows a page and writes a picture of it", async () => {
      const file = "/home/firefox/Downloads/shot.png";
      const { code, stderr } = await run(
        ...["firefox-esr", "--headless", "--screenshot", file, "--window-size=300,200"],
        page("headless"),
      );
      assert.equal(code, 0, stderr);
      await isOwners(`${folder}/shot.png`);
      const picture = await readPng(await Deno.readFile(`${folder}/shot.png`));
      assert((coloursOf(picture).get(green) ?? 0) > 50_000);
      assert(asked.includes("/headless"));
    });

    await t.step("with a window", async () => {
      const { code, stderr } = await run("--detach", "firefox-esr", page("one"));
      assert.equal(code, 0, stderr);
      await until(
        "the page is on the screen",
        async () => (coloursOf(await desk.screenshot()).get(green) ?? 0) > 50_000,
        60,
      ).catch((error) => {
        throw new Error(world.log.slice(-3000), { cause: error });
      });
      assert(asked.includes("/one"));
    });

    await t.step("a second run opens a page in the same process", async () => {
      const [before, ...more] = firefoxes().main;
      assert(before !== undefined);
      assert.deepEqual(more, []);
      const { code, stderr } = await run("firefox-esr", page("two"));
      assert.equal(code, 0, stderr);
      await until("the page is asked for", () => asked.includes("/two"), 30);
      assert.deepEqual(firefoxes().main, [before]);
    });

    await t.step("a download is its owner's, outside", async () => {
      assert.equal((await run("firefox-esr", page("file.bin"))).code, 0);
      const path = `${folder}/file.bin`;
      await until("it is there", async () => {
        const text = await Deno.readTextFile(path).catch(() => "");
        return text === "what was downloaded";
      }, 30);
      await isOwners(path);
    });

    await t.step("its own sandbox is on: what shows pages has a filter more", async () => {
      // One that is there in advance is forked first, and goes into its sandbox then.
      await until("all that show pages have it", () => {
        const { main: [main], content } = firefoxes();
        return main !== undefined && content.length > 0 &&
          content.every((pid) => filtersOf(pid) > filtersOf(main));
      });
    });

    await t.step("of its owner's it sees what is lent", async () => {
      await Deno.writeTextFile(`${desk.folder}/secret`, "x");
      const script = `ls -A ~ ${desk.folder} 2>&1; ls $XDG_RUNTIME_DIR`;
      const { stdout } = await run("-p", "firefox", "sh", "-c", script);
      assert.match(stdout, /^Downloads$/m);
      assert.doesNotMatch(stdout, /secret|weston/);
    });
  } finally {
    await world.client(["stop", "--all", "--force"], { uid: uA });
    await server.shutdown();
  }
});
