/**
 * `appjail completions`: a script for a shell, made from the same tables as the help. What there is at
 * the moment (profiles, programs, what is lent) is asked for when it is needed.
 *
 * @module
 */
import { AppjailError } from "../core/errors.ts";
import { writeOut } from "./client.ts";
import { helpOption, type OptionWords, topOptions, type VerbWords } from "./verb-words.ts";

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

/** What can stand in a place. */
type Kind =
  /** Those that have a uid. */
  | "profile"
  /** Those, and those that are only written. */
  | "written"
  /** A profile, before the colon of a path in its home. */
  | "home"
  | "program"
  | "lent"
  /** Another machine. */
  | "host"
  | "file"
  | "folder"
  | "verb"
  | "shell"
  /** A command, and then whatever the shell completes for it. */
  | "command"
  /** One of some words. */
  | readonly string[];

/** What can stand behind a verb, or behind a word of its own such as `profile show`. */
interface Places {
  readonly kinds: readonly (readonly Kind[])[];
  /** What stands last may be there any number of times. */
  readonly many: boolean;
}

/** What one asks, most of it appjail itself, by the kind of what it answers. */
const questions = {
  profile: "appjail profiles 2>/dev/null </dev/null",
  written: "appjail profile list --names 2>/dev/null </dev/null",
  home: "appjail profiles 2>/dev/null </dev/null | sed 's/$/:/'",
  program: "appjail status 2>/dev/null </dev/null | " +
    String.raw`sed -n 's/^  \([^ ]*\)  *pid [0-9].*/\1/p'`,
  lent: "appjail status 2>/dev/null </dev/null | " +
    String.raw`sed -n "s|^  lent '~/lent/\([^']*\)' .*|\1|p"`,
  // As ssh(1) would find them. Those that are patterns name no machine.
  host: "sed -n 's/^ *[Hh][Oo][Ss][Tt]  *//p' ~/.ssh/config 2>/dev/null | " +
    String.raw`tr ' ' '\n' | grep -v '[*?!]'`,
} as const;
type Question = keyof typeof questions;

function isQuestion(kind: Kind): kind is Question {
  return typeof kind === "string" && Object.hasOwn(questions, kind);
}

function valueOf({ long, value = "", choices }: OptionWords): readonly Kind[] {
  if (choices.length > 0) return [choices];
  // Where the daemon listens is a file, too.
  if (long === "--socket") return ["file"];
  const kinds: Readonly<Record<string, Kind>> = {
    PROFILE: "written",
    FILE: "file",
    DIR: "folder",
    HOST: "host",
  };
  const kind = kinds[value];
  return kind === undefined ? [] : [kind];
}

/** By what the help calls it. */
const byName: Readonly<Record<string, Kind>> = {
  PROFILE: "profile",
  PATH: "file",
  FILE: "file",
  PROGRAM: "program",
  SHELL: "shell",
};

/** Where its name does not tell. */
const byVerb: Readonly<Record<string, readonly (readonly Kind[])[]>> = {
  run: [["command"]],
  help: [["verb"]],
  plan: [["written"]],
  put: [["file", "home"]],
  get: [["home", "folder"]],
  unlend: [["profile"], ["lent"]],
};

function placesOf(verb: VerbWords): Places {
  const kinds = byVerb[verb.name] ?? verb.arguments.map(({ name }) => {
    const kind = byName[name];
    return kind === undefined ? [] : [kind];
  });
  return { kinds, many: verb.arguments.at(-1)?.many === true };
}

/** The words of its own that a verb goes on with, and what can stand behind each: from its usages. */
function subverbsOf(verb: VerbWords): ReadonlyMap<string, Places> {
  const subverbs = new Map<string, Places>();
  if (byVerb[verb.name] !== undefined || verb.arguments[0]?.name !== "COMMAND") return subverbs;
  for (const usage of verb.usages) {
    const [, name = "", ...names] = usage.replaceAll(/ \[-[^\]]*\]/g, "").split(" ");
    const kinds = names.flatMap((word): readonly (readonly Kind[])[] => {
      const known = /[A-Z]+/.exec(word)?.[0] ?? "";
      const kind = known === "NAME" || known === "PROFILE" ? "written" : byName[known];
      return kind === undefined ? [] : [[kind]];
    });
    subverbs.set(name, { kinds, many: names.some((word) => word.includes("...")) });
  }
  return subverbs;
}

/** The ways to write an option: `--profile -p`. */
function spellings({ long, short }: OptionWords): readonly string[] {
  return short === undefined ? [long] : [long, `-${short}`];
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Each place of a verb or of a word of its own, as a pattern of its number, counted from 0. */
function arms({ kinds, many }: Places): readonly (readonly [number: string, readonly Kind[]])[] {
  return kinds.map((one, at) => [many && at === kinds.length - 1 ? "*" : `${at}`, one]);
}

// --- bash --------------------------------------------------------------------------------------

function bash(verbs: readonly VerbWords[]): string {
  const names = verbs.map(({ name }) => name);
  const word = (kind: Kind): string => {
    if (typeof kind !== "string") return `words+=' ${kind.join(" ")}'`;
    if (isQuestion(kind)) return `words+=" $(${questions[kind]})"`;
    switch (kind) {
      case "file":
        return "_appjail_files -f";
      case "folder":
        return "_appjail_files -d";
      case "verb":
        return word(names);
      case "shell":
        return word(Object.keys(shells));
      case "command":
        return '_appjail_command "$at"';
      default:
        return kind satisfies never;
    }
  };
  const words = (kinds: readonly Kind[]): string => kinds.map(word).join("; ") || ":";
  const all = [...topOptions, ...verbs.flatMap(({ options }) => options)]
    .filter(({ value }) => value !== undefined);
  const pattern = (options: readonly OptionWords[]): string =>
    [...new Set(options.flatMap(spellings))].join("|");
  const byValue = Map.groupBy(all, (option) => words(valueOf(option)));
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
    _appjail_files -f
  fi
}

_appjail_files() {
  mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
  compopt -o filenames 2>/dev/null
}

_appjail() {
  local cur=\${COMP_WORDS[COMP_CWORD]} verb= option= at words= place=0 sub=
  COMPREPLY=()
  # The verb, the option that the word at the cursor is the value of, how many words stand before it,
  # and run's COMMAND.
  for ((at = 1; at < COMP_CWORD; at++)); do
    # bash cuts --socket=PATH, NAME=VALUE, USER@HOST and PROFILE:PATH into three words.
    [[ \${COMP_WORDS[at]} == [=:@] ]] && { option=\${option:-=}; continue; }
    if [[ $option ]]; then
      option=
      continue
    fi
    case \${COMP_WORDS[at]} in
      --) [[ $verb == run ]] && { ((at++)); break; } ;;
      ${pattern(all)})
        option=\${COMP_WORDS[at]}
        ;;
      -*) ;;
      *)
        if [[ ! $verb ]]; then
          verb=\${COMP_WORDS[at]}
        elif [[ $verb == run ]]; then
          break
        else
          ((place++)) || sub=\${COMP_WORDS[at]}
        fi
        ;;
    esac
  done
  [[ $cur == : ]] && return
  [[ $cur == = ]] && cur=
  case $option in
${[...byValue].map(([does, options]) => `    ${pattern(options)}) ${does} ;;`).join("\n")}
    =) return ;;
    *)
      if [[ $verb == run && ( $cur != -* || $at -lt $COMP_CWORD || \${COMP_WORDS[at-1]} == -- ) ]]; then
        _appjail_command "$at"
        return
      fi
      case $verb:$cur in
        :*) words='${[...names, ...topOptions.flatMap(spellings)].join(" ")}' ;;
${
    verbs.map(({ name, options }) =>
      `        ${name}:-*) words='${[...options, helpOption].flatMap(spellings).join(" ")}' ;;`
    ).join("\n")
  }
        *)
          case $verb,$place,$sub in
${
    verbs.flatMap((verb) => {
      const subverbs = subverbsOf(verb);
      if (subverbs.size === 0) {
        return arms(placesOf(verb)).map(([at, kinds]) =>
          `            ${verb.name},${at},*) ${words(kinds)} ;;`
        );
      }
      return [
        `            ${verb.name},0,*) ${words([[...subverbs.keys()]])} ;;`,
        ...[...subverbs].flatMap(([sub, places]) =>
          arms(places).map(([at, kinds]) => {
            const number = at === "*" ? at : `${Number(at) + 1}`;
            return `            ${verb.name},${number},${sub}) ${words(kinds)} ;;`;
          })
        ),
      ];
    }).join("\n")
  }
          esac
          ;;
      esac
      ;;
  esac
  [[ $words ]] || return
  mapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$words" -- "$cur")
  # Behind the colon of PROFILE: a path goes on. As a file's name, bash would quote it.
  [[ \${#COMPREPLY[@]} == 1 && $COMPREPLY == *: ]] && compopt +o filenames -o nospace 2>/dev/null
  return 0
}

complete -F _appjail appjail
`;
}

// --- zsh ---------------------------------------------------------------------------------------

function zsh(verbs: readonly VerbWords[]): string {
  const action = (kind: Kind): string => {
    if (typeof kind !== "string") return `compadd - ${kind.join(" ")}`;
    if (isQuestion(kind)) return `_appjail_${kind}`;
    switch (kind) {
      case "file":
        return "_files";
      case "folder":
        return "_files -/";
      case "verb":
        return "_appjail_verbs";
      case "shell":
        return action(Object.keys(shells));
      case "command":
        return "_command_names -e";
      default:
        return kind satisfies never;
    }
  };
  const actions = (kinds: readonly Kind[]): string =>
    kinds.length > 1 ? `{ ${kinds.map(action).join("; ")} }` : kinds.map(action).join() || " ";
  const escaped = (text: string): string => text.replace(/[\\[\]:]/g, "\\$&");
  const option = (one: OptionWords): string => {
    const all = spellings(one);
    const value = one.value === undefined ? "" : `:value:${actions(valueOf(one))}`;
    // A word may be given once, env as often as one likes.
    const often = one.long === "--env" ? "*" : `(${all.join(" ")})`;
    const what = quote(`[${escaped(one.brief)}]${value}`);
    return all.map((word) => `${quote(often)}${word}${what}`).join(" ");
  };
  const places = (all: Places): readonly string[] =>
    arms(all).map(([at, kinds]) =>
      quote(`${at === "*" ? at : Number(at) + 1}:argument:${actions(kinds)}`)
    );
  const verbArm = (verb: VerbWords): string => {
    const options = [...verb.options, helpOption].map(option).join(" ");
    const subverbs = subverbsOf(verb);
    // Behind run's COMMAND there is no option of ours: -A.
    if (verb.name === "run") {
      return `    run) _arguments -A '-*' ${options}` +
        ` '(-)1:command:_command_names -e' '*::arguments:_normal' ;;`;
    }
    if (subverbs.size === 0) {
      return `    ${verb.name}) ${["_arguments", options, ...places(placesOf(verb))].join(" ")} ;;`;
    }
    return `    ${verb.name})
      _arguments -C ${options} '1:command:(${[...subverbs.keys()].join(" ")})' '*::argument:->more'
      [[ $state == more ]] || return
      case $words[1] in
${
      [...subverbs].map(([name, all]) =>
        `        ${name}) ${["_arguments", options, ...places(all)].join(" ")} ;;`
      ).join("\n")
    }
      esac
      ;;`;
  };
  return `#compdef appjail
# zsh completion of appjail; try: source <(appjail completions zsh)

${
    Object.entries(questions).map(([kind, command]) =>
      `_appjail_${kind}() {
  local -a names
  names=(\${(f)"$(${command})"})
  compadd ${kind === "home" ? "-S '' " : ""}-a names
}`
    ).join("\n\n")
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
  _arguments -C -A '-*' ${topOptions.map(option).join(" ")} \\
    '1:command:_appjail_verbs' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $words[1] in
${verbs.map(verbArm).join("\n")}
  esac
}

if [[ $funcstack[1] == _appjail ]]; then
  _appjail "$@"
else
  compdef _appjail appjail
fi
`;
}

// --- fish --------------------------------------------------------------------------------------

function fish(verbs: readonly VerbWords[]): string {
  /** The words of `complete` that offer a kind, and nothing else. */
  const action = (kind: Kind): string => {
    if (typeof kind !== "string") return `-a ${quote(kind.join(" "))}`;
    if (isQuestion(kind)) return `-a '(__appjail_${kind})'`;
    switch (kind) {
      case "file":
        return "-F";
      case "folder":
        return "-a '(__fish_complete_directories)'";
      case "verb":
        return action(verbs.map(({ name }) => name));
      case "shell":
        return action(Object.keys(shells));
      case "command":
        return "-a '(__appjail_command)'";
      default:
        return kind satisfies never;
    }
  };
  const option = (when: string, one: OptionWords): string => {
    const short = one.short === undefined ? "" : ` -s ${one.short}`;
    const [kind] = valueOf(one);
    const value = one.value === undefined
      ? ""
      : kind === undefined
      ? " -x"
      : kind === "file"
      ? " -rF"
      : ` -x ${action(kind)}`;
    return `complete -c appjail -n ${quote(when)} -l ${one.long.slice(2)}${short}${value}` +
      ` -d ${quote(one.brief)}`;
  };
  const place = (verb: string, at: string, kinds: readonly Kind[]): readonly string[] =>
    kinds.map((kind) =>
      `complete -c appjail -n ${quote(`__appjail_at ${verb} ${at.replace("*", "any")}`)} ` +
      action(kind)
    );
  const places = (verb: VerbWords): readonly string[] => {
    const subverbs = subverbsOf(verb);
    if (subverbs.size === 0) {
      return arms(placesOf(verb)).flatMap(([at, kinds]) =>
        verb.name === "run"
          ? [`complete -c appjail -n '__appjail_verb run' ${kinds.map(action).join(" ")}`]
          : place(verb.name, at, kinds)
      );
    }
    return [
      ...place(verb.name, "0", [[...subverbs.keys()]]),
      ...[...subverbs].flatMap(([name, all]) =>
        arms(all).flatMap(([at, kinds]) =>
          place(verb.name, `${at === "*" ? at : Number(at) + 1} ${name}`, kinds)
        )
      ),
    ];
  };
  const valued = verbs.flatMap(({ options }) => options).filter(({ value }) => value !== undefined);
  const skipped = [
    ...new Set([...topOptions.filter(({ value }) => value !== undefined), ...valued]
      .flatMap(spellings)),
  ].join(" ");
  return `# fish completion of appjail; try: appjail completions fish | source

${
    Object.entries(questions).map(([kind, command]) =>
      `function __appjail_${kind}
    ${command}
end`
    ).join("\n\n")
  }

# Prints what stands before the cursor from the verb on.
function __appjail_words
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --socket --host -H
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

# Prints what stands behind the verb, options left out; of run it is COMMAND and all that follows.
function __appjail_arguments
    set -l words (__appjail_words)
    set -l verb $words[1]
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                if test "$verb" = run
                    break
                end
                continue
            case ${skipped}
                set -e words[1]
            case '-*'
            case '*'
                if test "$verb" = run
                    break
                end
                printf '%s\\n' $words[1]
        end
        set -e words[1]
    end
    test "$verb" = run; and set -q words[1]; and printf '%s\\n' $words
end

# The verb, how many words stand behind it or any, and the first of them where that matters.
function __appjail_at
    __appjail_verb $argv[1]; or return
    set -l given (__appjail_arguments)
    test "$argv[2]" = any; or test (count $given) -eq $argv[2]; or return
    set -q argv[3]; or return 0
    set -q given[1]; and test "$given[1]" = "$argv[3]"
end

function __appjail_command
    set -l words (__appjail_arguments | string escape)
    set -l word (commandline -ct)
    not set -q words[1]; and string match -q -- '-*' $word; and return
    complete -C "$(string join -- ' ' $words $word)"
end

function __appjail_run_options
    __appjail_verb run; and test (count (__appjail_arguments)) -eq 0
end

complete -c appjail -f
${topOptions.map((one) => option("__appjail_verb", one)).join("\n")}
${
    verbs.map(({ name, brief }) =>
      `complete -c appjail -n __appjail_verb -a ${name} -d ${quote(brief)}`
    ).join("\n")
  }
${
    verbs.flatMap((verb) => {
      const when = verb.name === "run" ? "__appjail_run_options" : `__appjail_verb ${verb.name}`;
      return [...[...verb.options, helpOption].map((one) => option(when, one)), ...places(verb)];
    }).join("\n")
  }
`;
}
