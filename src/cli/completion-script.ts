/** The shells' completion, as one function that both run: zsh through its own emulation of bash's. */
import { GLOBAL_OPTIONS, type Option, type Options, type Positional, type Positionals } from './command.ts';

export const SHELLS = ['bash', 'zsh'] as const;

export interface CompletedCommand {
  /** `schedule`, or `template` and `set`. */
  words: string[];
  positionals: Positionals;
  options: Options;
}

/** Names are asked from the server when they are wanted; every word in it is quoted, none comes from a user. */
export function completionScript(shell: (typeof SHELLS)[number], commands: CompletedCommand[]): string {
  const load = `# Completion of builder in ${shell}. Load it: eval "$(builder completion ${shell})"\n`;
  const prelude =
    'if ! command -v compdef >/dev/null; then autoload -U compinit && compinit; fi\nautoload -U +X bashcompinit && bashcompinit\n';
  return `${load}${shell === 'zsh' ? prelude : ''}${flagsFunction(commands)}${kindFunction(commands)}${FUNCTION}`;
}

/** KEY to the words that may stand there: commands, or flags. */
function flagsFunction(commands: CompletedCommand[]): string {
  const keys = new Map<string, string[]>([['', []]]);
  for (const { words, options } of commands) {
    for (const [index, word] of words.entries()) {
      const key = words.slice(0, index).join(' ');
      keys.set(key, [...new Set([...(keys.get(key) ?? []), word])]);
    }
    keys.set(words.join(' '), flagsOf({ ...options, ...GLOBAL_OPTIONS }));
  }
  const cases = [...keys].map(([key, words]) => `    '${key}') flags='${words.join(' ')}' ;;\n`).join('');
  const nested = [...new Set(commands.filter(({ words }) => words.length > 1).map(({ words }) => words[0]))].join('|');
  return `_builder_flags() {\n  case "$1" in\n${cases}    *) flags='' ;;\n  esac\n}\n_builder_nested() {\n  case "$1" in ${nested}) return 0 ;; *) return 1 ;; esac\n}\n`;
}

/** KEY and a flag or the number of an argument to what stands there; a flag without a value has none. */
function kindFunction(commands: CompletedCommand[]): string {
  const cases = commands.flatMap(({ words, positionals, options }) => {
    const key = words.join(' ');
    const flags = Object.entries<Option>({ ...options, ...GLOBAL_OPTIONS }).filter(
      ([, option]) => option.kind !== 'flag' && option.hidden !== true,
    );
    const places = Object.values<Positional>(positionals);
    return [
      ...flags.map(([name, option]) => `    ${patternOf(key, name, option.alias)}) kind='${kindOf(option)}' ;;\n`),
      ...places.map((place, index) => `    '${key} '${place.many ? '[0-9]*' : index}) kind='${kindOf(place)}' ;;\n`),
    ];
  });
  const globals = Object.entries<Option>(GLOBAL_OPTIONS).filter(([, option]) => option.kind !== 'flag');
  const before = globals.map(([name]) => `' --${name}'`).join('|');
  return `_builder_kind() {\n  case "$1 $2" in\n    ${before}) kind='any' ;;\n${cases.join('')}    *) kind='' ;;\n  esac\n}\n`;
}

function patternOf(key: string, name: string, alias: string | undefined): string {
  const names = alias === undefined ? [name] : [name, alias];
  return names.map((one) => `'${key} ${dashed(one)}'`).join('|');
}

function kindOf({ complete, choices }: Option | Positional): string {
  return choices === undefined ? (complete ?? 'any') : `=${choices.join(' ')}`;
}

function flagsOf(options: Options): string[] {
  const shown = Object.entries<Option>(options).filter(([, option]) => option.hidden !== true);
  return [...shown.flatMap(([name, { alias }]) => (alias === undefined ? [name] : [name, alias])), 'help'].map(dashed);
}

function dashed(name: string): string {
  return name.length === 1 ? `-${name}` : `--${name}`;
}

/** Walks the words up to the cursor, so that flags may stand anywhere; nothing offered means the shell's own file names. */
const FUNCTION = `_builder() {
  local current="\${COMP_WORDS[COMP_CWORD]}" key='' before='' place=0 index=1 flags='' kind='' word=''
  while [ "$index" -lt "$COMP_CWORD" ]; do
    word="\${COMP_WORDS[index]}"
    if [ -n "$before" ]; then
      before=''
    else
      case "$word" in
        -?*) _builder_kind "$key" "$word"; if [ -n "$kind" ]; then before="$word"; fi ;;
        *)
          if [ -z "$key" ]; then key="$word"
          elif _builder_nested "$key"; then key="$key $word"
          else place=$((place + 1)); fi ;;
      esac
    fi
    index=$((index + 1))
  done
  COMPREPLY=()
  _builder_flags "$key"
  if [ -n "$before" ]; then
    _builder_kind "$key" "$before"
  elif [ -z "$key" ] || _builder_nested "$key"; then
    kind="=$flags"
  else
    case "$current" in
      -*) kind="=$flags" ;;
      *) _builder_kind "$key" "$place" ;;
    esac
  fi
  case "$kind" in
    =*) flags="\${kind#=}" ;;
    runs|jobs|runs-and-jobs|platforms|templates|tokens) flags="$("\${COMP_WORDS[0]}" completion --words "$kind" 2>/dev/null </dev/null)" ;;
    *) return 0 ;;
  esac
  COMPREPLY=($(compgen -W "$flags" -- "$current"))
}
complete -o default -F _builder builder
`;
