# Prints what bash offers behind each line: bash complete.bash SCRIPT LINE...
#
# It calls the function that complete(1) has tied to the command, with the words as bash cuts them.
source "$1"
shift
tied=$(complete -p appjail)
[[ $tied == "complete -F "*" appjail" ]] || exit 1
tied=${tied#complete -F }
# It is for a Tab that was pressed.
compopt() { :; }
for line; do
  read -ra COMP_WORDS <<< "$line"
  [[ $line == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
  "${tied% appjail}"
  ((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}"
  echo '-- end'
done
