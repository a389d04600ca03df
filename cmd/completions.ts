/**
 * `appjail completions`: a script for a shell, made from the same tables as the help. The names of
 * profiles are asked for when they are needed.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import type { VerbWords } from "./app.ts";
import { writeOut } from "./client.ts";

const shells = { bash, zsh, fish } as const;

export function completions(shell: string, verbs: readonly VerbWords[]): number {
  const known = Object.entries(shells).find(([name]) => name === shell);
  if (known === undefined) {
    throw new AppjailError(
      "usage",
      `Cannot complete for ${JSON.stringify(shell)}: it has to be bash, zsh or fish`,
    );
  }
  writeOut(known[1](verbs), Deno.stdout);
  return 0;
}

type Option = VerbWords["options"][number];

const topOptions: readonly Option[] = [
  { long: "--socket", short: undefined, brief: "Where the daemon listens", takesValue: true },
  { long: "--version", short: "V", brief: "Say which version this is", takesValue: false },
];
const help: Option = { long: "--help", short: "h", brief: "Explain this", takesValue: false };

/** What profile does. Its names stand behind most of them. */
const subverbs = ["list", "show", "new", "edit", "check", "diff", "delete"] as const;

/** What stands behind an option or a verb. */
type Kind =
  | "profile"
  | "written"
  | "subverb"
  | "file"
  | "folder"
  | "verb"
  | "shell"
  | "command"
  | "none";

function valueOf({ long }: Option): Kind {
  if (long === "--profile" || long === "--from") return "written";
  if (["--socket", "--config", "--env-file"].includes(long)) return "file";
  const folders = ["--cwd", "--data-root", "--state-dir", "--runtime-dir"];
  return [...folders, "--profiles-dir", "--admin-profiles"].includes(long) ? "folder" : "none";
}

function argumentOf({ name }: VerbWords): Kind {
  const ofOne = [
    "unlock",
    "encrypt",
    "decrypt",
    "passwd",
    "plan",
    "logs",
    "events",
    "shell",
    "ps",
    "get",
    "lend",
    "unlend",
  ];
  if (["status", "stop", "lock", ...ofOne].includes(name)) return "profile";
  if (name === "put") return "file";
  if (name === "profile") return "subverb";
  return name === "run"
    ? "command"
    : name === "help"
    ? "verb"
    : name === "completions"
    ? "shell"
    : "none";
}

/** The ways to write an option: `--profile -p`. */
function spellings({ long, short }: Option): readonly string[] {
  return short === undefined ? [long] : [long, `-${short}`];
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function bash(verbs: readonly VerbWords[]): string {
  const names = verbs.map(({ name }) => name).join(" ");
  const words: Readonly<Record<Kind, string>> = {
    profile: "words=$(appjail profiles 2>/dev/null </dev/null)",
    written: "words=$(appjail profile list --names 2>/dev/null </dev/null)",
    subverb: `words="${subverbs.join(" ")} $(appjail profile list --names 2>/dev/null </dev/null)"`,
    file:
      'mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return',
    folder:
      'mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return',
    verb: `words='${names}'`,
    shell: `words='${Object.keys(shells).join(" ")}'`,
    command: '_appjail_command "$at"; return',
    none: "words=",
  };
  const valued = [...topOptions, ...verbs.flatMap(({ options }) => options)]
    .filter(({ takesValue }) => takesValue);
  const arm = (options: readonly Option[]): string =>
    [...new Set(options.flatMap(spellings))].join("|");
  const kinds: readonly Kind[] = ["written", "file", "folder", "none"];
  return `# bash completion of appjail; try: source <(appjail completions bash)

# From the program's own name on, whatever bash completes for it.
_appjail_command() {
  if declare -F _comp_command_offset >/dev/null; then
    _comp_command_offset "$1"
  elif declare -F _command_offset >/dev/null; then
    _command_offset "$1"
  elif ((COMP_CWORD == $1)); then
    mapfile -t COMPREPLY < <(compgen -c -- "\${COMP_WORDS[COMP_CWORD]}")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")
    compopt -o filenames 2>/dev/null
  fi
}

_appjail() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verb= option= at words=
  COMPREPLY=()
  # The verb, the option that the word at the cursor is the value of, and run's COMMAND.
  for ((at = 1; at < COMP_CWORD; at++)); do
    # bash cuts --socket=PATH, and NAME=VALUE, into three words.
    [[ \${COMP_WORDS[at]} == = ]] && { option=\${option:-=}; continue; }
    if [[ $option ]]; then
      option=
      continue
    fi
    case \${COMP_WORDS[at]} in
      --) [[ $verb == run ]] && { ((at++)); break; } ;;
      ${arm(valued)})
        option=\${COMP_WORDS[at]}
        ;;
      -*) ;;
      *)
        if [[ ! $verb ]]; then
          verb=\${COMP_WORDS[at]}
        elif [[ $verb == run ]]; then
          break
        fi
        ;;
    esac
  done
  [[ $cur == = ]] && cur=
  case $option in
${
    kinds.map((kind) => {
      const options = valued.filter((option) => valueOf(option) === kind);
      return `    ${arm(options)}) ${words[kind]} ;;`;
    }).join("\n")
  }
    =) return ;;
    *)
      if [[ $verb == run && ( $cur != -* || $at -lt $COMP_CWORD || \${COMP_WORDS[at-1]} == -- ) ]]; then
        _appjail_command "$at"
        return
      fi
      case $verb:$cur in
        :*) words='${[names, ...[...topOptions, help].flatMap(spellings)].join(" ")}' ;;
${
    verbs.map((verb) => {
      const options = [...verb.options, help].flatMap(spellings).join(" ");
      return `        ${verb.name}:-*) words='${options}' ;;\n` +
        `        ${verb.name}:*) ${words[argumentOf(verb)]} ;;`;
    }).join("\n")
  }
      esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _appjail appjail
`;
}

function zsh(verbs: readonly VerbWords[]): string {
  const actions: Readonly<Record<Kind, string>> = {
    profile: "_appjail_profiles",
    written: "_appjail_written",
    subverb: "_appjail_subverbs",
    file: "_files",
    folder: "_files -/",
    verb: "_appjail_verbs",
    shell: `(${Object.keys(shells).join(" ")})`,
    command: "_command_names -e",
    none: " ",
  };
  const escaped = (text: string): string => text.replace(/[\\[\]:]/g, "\\$&");
  const option = (one: Option): string => {
    const all = spellings(one);
    const value = one.takesValue ? `:value:${actions[valueOf(one)]}` : "";
    // A word may be given once, env as often as one likes.
    const often = one.long === "--env" ? "*" : `(${all.join(" ")})`;
    const what = quote(`[${escaped(one.brief)}]${value}`);
    return all.map((word) => `${quote(often)}${word}${what}`).join(" ");
  };
  const argument = (verb: VerbWords): string => {
    const kind = argumentOf(verb);
    if (kind === "none") return "";
    if (kind === "command") {
      return ` ${quote(`(-)1:command:${actions.command}`)} '*::arguments:_normal'`;
    }
    return ` ${
      quote(
        `${["stop", "lock", "profile"].includes(verb.name) ? "*" : "1"}:${kind}:${actions[kind]}`,
      )
    }`;
  };
  return `#compdef appjail
# zsh completion of appjail; try: source <(appjail completions zsh)

_appjail_profiles() {
  local -a names
  names=(\${(f)"$(appjail profiles 2>/dev/null </dev/null)"})
  compadd -a names
}

_appjail_written() {
  local -a names
  names=(\${(f)"$(appjail profile list --names 2>/dev/null </dev/null)"})
  compadd -a names
}

_appjail_subverbs() {
  compadd ${subverbs.join(" ")}
  _appjail_written
}

_appjail_verbs() {
  local -a verbs
  verbs=(
${verbs.map(({ name, brief }) => `    ${quote(`${name}:${escaped(brief)}`)}`).join("\n")}
  )
  _describe command verbs
}

_appjail() {
  local curcontext=$curcontext state line
  _arguments -C ${[...topOptions, help].map(option).join(" ")} \\
    '1:command:_appjail_verbs' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $words[1] in
${
    verbs.map((verb) =>
      // -A: behind run's COMMAND there is no option of ours.
      `    ${verb.name}) _arguments ${verb.name === "run" ? "-A '-*' " : ""}${
        [...verb.options, help].map(option).join(" ")
      }${argument(verb)} ;;`
    ).join("\n")
  }
  esac
}

if [[ $funcstack[1] == _appjail ]]; then
  _appjail "$@"
else
  compdef _appjail appjail
fi
`;
}

function fish(verbs: readonly VerbWords[]): string {
  const actions: Readonly<Record<Kind, string>> = {
    profile: "-xa '(appjail profiles 2>/dev/null </dev/null)'",
    written: "-xa '(appjail profile list --names 2>/dev/null </dev/null)'",
    subverb: `-xa ${
      quote(`${subverbs.join(" ")} (appjail profile list --names 2>/dev/null </dev/null)`)
    }`,
    file: "-rF",
    folder: "-xa '(__fish_complete_directories)'",
    verb: `-xa ${quote(verbs.map(({ name }) => name).join(" "))}`,
    shell: `-xa ${quote(Object.keys(shells).join(" "))}`,
    command: "-xa '(__appjail_command)'",
    none: "-x",
  };
  const option = (when: string, one: Option): string => {
    const short = one.short === undefined ? "" : ` -s ${one.short}`;
    const value = one.takesValue ? ` ${actions[valueOf(one)]}` : "";
    return `complete -c appjail -n ${quote(when)} -l ${one.long.slice(2)}${short}${value}` +
      ` -d ${quote(one.brief)}`;
  };
  const valued = verbs.flatMap(({ options }) => options).filter(({ takesValue }) => takesValue);
  return `# fish completion of appjail; try: appjail completions fish | source

# Prints what stands before the cursor from the verb on.
function __appjail_words
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --socket
                set -e words[1]
            case '-*'
            case '*'
                printf '%s\\n' $words
                return
        end
        set -e words[1]
    end
end

# The verb is the given one; without any, none is there yet.
function __appjail_verb
    set -l words (__appjail_words)
    test "$words[1]" = "$argv[1]"
end

# Prints run's COMMAND and what follows it.
function __appjail_program
    set -l words (__appjail_words)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case ${[...new Set(valued.flatMap(spellings))].join(" ")}
                set -e words[1]
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    set -q words[1]; and printf '%s\\n' $words
end

function __appjail_command
    set -l words (__appjail_program | string escape)
    set -l word (commandline -ct)
    not set -q words[1]; and string match -q -- '-*' $word; and return
    complete -C "$(string join -- ' ' $words $word)"
end

function __appjail_run_options
    __appjail_verb run; and test (count (__appjail_program)) -eq 0
end

complete -c appjail -f
${[...topOptions, help].map((one) => option("__appjail_verb", one)).join("\n")}
${
    verbs.map(({ name, brief }) =>
      `complete -c appjail -n __appjail_verb -a ${name} -d ${quote(brief)}`
    ).join("\n")
  }
${
    verbs.flatMap((verb) => {
      const when = `__appjail_verb ${verb.name}`;
      const kind = argumentOf(verb);
      return [
        ...[...verb.options, help].map((one) =>
          option(verb.name === "run" ? "__appjail_run_options" : when, one)
        ),
        ...(kind === "none" ? [] : [`complete -c appjail -n ${quote(when)} ${actions[kind]}`]),
      ];
    }).join("\n")
  }
`;
}
