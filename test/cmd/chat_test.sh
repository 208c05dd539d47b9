# generate: chat templates from the command line.
source "$(dirname "$0")/lib.sh"

# --- the demo's template; BOS comes from the template, once
run 0 generate "$demo" --chat -p "What is it?" --print-prompt
[[ $(cat "$work/out") == $'<s>Question: What is it?\nAnswer:' ]] || complain "$said: $(cat "$work/out")"
run 0 generate "$demo" -p "What is it?" --print-prompt
[[ $(cat "$work/out") == "What is it?" ]] || complain "$said: raw text is changed: $(cat "$work/out")"
run 0 generate "$demo" --raw -p "What is it?" --print-prompt --json
json 'd == {"schema": "qtool.generate/1", "prompt": "What is it?"}'
run 0 generate "$demo" --chat -p "What is it?" -n 1 --json
json 'd["prompt_tokens"][0] == 1 and d["prompt_tokens"].count(1) == 1 and d["prompt"].startswith("<s>Question: ")'

# --- a folder with a template alone: no weights, no config, no vocabulary
folder=$work/model
mkdir "$folder"
printf '%s' '{"bos_token": {"content": "<B>"}, "eos_token": "<E>", "chat_template": [
  {"name": "default", "template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}{{ mood }}"},
  {"name": "tool_use", "template": "tools: {{ tools|tojson }}"}]}' >"$folder/tokenizer_config.json"
printf '[{"role": "user", "content": "a\\n\\u00e9"}, {"role": "assistant", "content": null}]' >"$work/messages.json"
run 0 generate "$folder" --messages "$work/messages.json" --print-prompt
[[ $(cat "$work/out") == $'<B>[user]a\n\xc3\xa9<E>[assistant]<E>[a]' ]] || complain "$said: $(cat "$work/out")"
run 0 generate "$folder" --system S -p U --print-prompt --chat-template-kwargs '{"mood": [1, "x"], "add_generation_prompt": false}'
[[ $(cat "$work/out") == "<B>[system]S<E>[user]U<E>[1, 'x']" ]] || complain "$said: $(cat "$work/out")"
printf '{"messages": [{"role": "user", "content": "x"}], "tools": [{"z": 1, "a": 2}]}' >"$work/tools.json"
run 0 generate "$folder" --messages "$work/tools.json" --print-prompt
[[ $(cat "$work/out") == 'tools: [{"z": 1, "a": 2}]' ]] || complain "$said: keys keep their order: $(cat "$work/out")"
run 0 generate "$folder" --chat -p x --print-prompt --chat-template tool_use
[[ $(cat "$work/out") == 'tools: null' ]] || complain "$said: $(cat "$work/out")"

# --- where templates live: a file beats tokenizer_config.json, --chat-template beats both
printf 'file {{ messages[0].content }}\n' >"$folder/chat_template.jinja"
run 0 generate "$folder" --chat -p x --print-prompt
[[ $(cat "$work/out") == "file x" ]] || complain "$said: $(cat "$work/out")"
printf 'mine {{ messages|length }}' >"$work/mine.jinja"
run 0 generate "$folder" -p x --print-prompt --chat-template "$work/mine.jinja"
[[ $(cat "$work/out") == "mine 1" ]] || complain "$said: $(cat "$work/out")"
mkdir "$work/old" && printf '{"chat_template": "old"}' >"$work/old/chat_template.json"
run 0 generate "$work/old" --chat -p x --print-prompt
[[ $(cat "$work/out") == "old" ]] || complain "$said: $(cat "$work/out")"

# --- what is refused, and by whom
fails 2 "--raw does not go with" generate "$demo" --raw --chat -p x
fails 2 "--prompt-tokens does not go with" generate "$demo" --chat --prompt-tokens 1
printf '[{"role": "system", "content": ""}]' >"$work/system.json"
printf '[]' >"$work/empty.json"
printf '3' >"$work/three.json"
fails 2 "already begin with a system message" generate "$demo" --system S --messages "$work/system.json" --print-prompt
fails 2 "there is no message" generate "$demo" --messages "$work/empty.json" --print-prompt
fails 4 "must hold a list of messages" generate "$demo" --messages "$work/three.json" --print-prompt
fails 4 "--chat-template-kwargs" generate "$demo" --chat -p x --chat-template-kwargs '[1]' --print-prompt
fails 3 "no file 'nowhere.jinja'" generate "$demo" --chat -p x --chat-template nowhere.jinja
mkdir "$work/none"
fails 2 "no chat template" generate "$work/none" --chat -p x --print-prompt
printf '{{ raise_exception("roles must alternate") }}' >"$work/mine.jinja"
fails 2 "roles must alternate" generate "$demo" -p x --chat-template "$work/mine.jinja"
printf '\n{%% if x %%}' >"$work/mine.jinja"
fails 4 "mine.jinja: line 2" generate "$demo" -p x --chat-template "$work/mine.jinja"
printf '{{ 1|sparkle }}' >"$work/mine.jinja"
fails 5 "the filter 'sparkle' is not known" generate "$demo" -p x --chat-template "$work/mine.jinja"

finish
