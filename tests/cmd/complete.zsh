# Prints what zsh offers behind each line: zsh -f complete.zsh SCRIPT LINE...
#
# A zsh at a terminal, in which Tab is pressed. What it adds to its list is told instead of shown.
zmodload zsh/zpty
zpty z zsh -f -i
say() { zpty -w z "$*" }
until-shown() {
  local line
  while zpty -r z line; do [[ $line == *$1* ]] && return; done
}
script=$1
shift
say "PROMPT=; stty -echo; autoload -U compinit; compinit -D -u; source ${(q)script}"
# The words that are waited for are cut in two where they are typed.
say "
bindkey '^I' complete-word
bindkey '^U' kill-whole-line
zstyle ':completion:*' insert-tab false
opening() { compprefuncs=(opening) comppostfuncs=(closing); print -r -- BEG''IN }
closing() { print -r -- EN''D }
compprefuncs=(opening) comppostfuncs=(closing)
# A call that only asks (-O, -A, -D) is answered.
compadd() {
  if [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
    builtin compadd \"\$@\"
    return
  fi
  local -a hits
  builtin compadd -A hits \"\$@\"
  (( \$#hits )) && print -rl -- 'HIT '\${^hits}
}
print rea''dy"
until-shown ready
for line; do
  zpty -n -w z $'\025'"$line"$'\t'
  on=
  while zpty -r z shown; do
    shown=${shown%$'\r\n'}
    [[ $shown == *BEGIN ]] && on=1
    [[ $on && $shown == *END ]] && break
    [[ $on && $shown == HIT\ * ]] && print -r -- ${shown#HIT }
  done
  print -r -- '-- end'
done
zpty -d z
