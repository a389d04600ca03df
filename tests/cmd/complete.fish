# Prints what fish offers behind each line: fish --no-config complete.fish SCRIPT LINE...
source $argv[1]
for line in $argv[2..-1]
    # What it is for stands behind a tab.
    complete -C "$line" | string split --fields 1 \t
    echo '-- end'
end
