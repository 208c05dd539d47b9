#!/usr/bin/env bash
# Models from the Hub, here a server on this machine: downloads, resumption, digests, tokens, faults, two processes.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "skipped: python3 is missing"; exit 77; }
export no_proxy='*'
unset http_proxy https_proxy HTTPS_PROXY ALL_PROXY all_proxy

# --- what is on the server: the demo as it is, and quantized in shards
root=$work/server
one=1111111111111111111111111111111111111111
two=2222222222222222222222222222222222222222
new_model() {  # ORG/NAME COMMIT: an empty folder to be filled
  mkdir -p "$root/$1/$2"
  echo "{\"main\": \"$2\", \"v1\": \"$2\"}" >"$root/$1/refs.json"
}
new_model some/demo $one
cp "$demo"/{config.json,generation_config.json,tokenizer.model,tokenizer_config.json,model.safetensors} "$root/some/demo/$one"
mkdir -p "$root/some/demo/$one"/{additional_chat_templates,onnx}
echo '{{ messages }}' >"$root/some/demo/$one/additional_chat_templates/tool_use.jinja"
for useless in README.md model.gguf pytorch_model.bin consolidated.safetensors onnx/model.onnx; do
  echo useless >"$root/some/demo/$one/$useless"
done
new_model some/shards $two
"$qtool" quantize --bits 4 --max-shard-size 1MB -o "$work/shards" -q >/dev/null || complain "cannot make shards"
cp "$work/shards"/* "$root/some/shards/$two"
shards=$(ls "$root/some/shards/$two"/*.safetensors | wc -l)

servers=()
trap 'kill "${servers[@]}" 2>/dev/null; rm -rf "$work"' EXIT
serve() {  # [CERTIFICATE KEY]: sets hub_port
  rm -f "$root/ports"
  python3 "$repo/test/cmd/hub_server.py" "$root" "$@" 2>"$work/server.err" &
  servers+=($!)
  for _ in $(seq 100); do [[ -e $root/ports ]] && break; sleep 0.1; done
  read -r hub_port _ <"$root/ports"
}
serve
export HF_ENDPOINT=http://127.0.0.1:$hub_port
faults() { echo "$1" >"$root/faults.json"; }
fresh() {  # an empty cache, no faults, an empty log
  faults "{}"
  rm -rf "$work/hf"
  : >"$root/log"
  export HF_HOME=$work/hf
  cache=$HF_HOME/hub/models--some--demo
}
# requests EXPRESSION: holds for the list `r` of requests that the server has seen
requests() {
  python3 -c 'import json, sys
r = [json.loads(line) for line in open(sys.argv[1])]
gets = [x for x in r if x["server"] == "cdn"]
sys.exit(0 if eval(sys.argv[2]) else 1)' "$root/log" "$1" || { complain "$said: requests: not so: $1"; tail -5 "$root/log" >&2; }
}
same_as_server() { cmp -s "$root/some/demo/$one/$1" "$cache/snapshots/$one/$1" || complain "$said: $1 differs"; }
nothing_half() {  # no unfinished or temporary file is left
  local left
  left=$(find "$HF_HOME" -name '*.incomplete' -o -name '*.tmp')
  [[ -z $left ]] || complain "$said: left behind: $left"
}

# --- download: the layout of huggingface_hub, only the files needed
fresh
run 0 pull some/demo
[[ $(cat "$work/out") == "$cache/snapshots/$one" ]] || complain "pull prints $(cat "$work/out")"
for file in config.json generation_config.json tokenizer.model tokenizer_config.json model.safetensors \
  additional_chat_templates/tool_use.jinja; do
  same_as_server "$file"
  [[ -L $cache/snapshots/$one/$file ]] || complain "$file is no link"
done
git_sha1() { { printf 'blob %d\0' "$(stat -c %s "$1")"; cat "$1"; } | sha1sum | cut -d' ' -f1; }
[[ $(readlink "$cache/snapshots/$one/config.json") == ../../blobs/$(git_sha1 "$demo/config.json") ]] ||
  complain "the link of config.json is $(readlink "$cache/snapshots/$one/config.json")"
[[ $(readlink "$cache/snapshots/$one/model.safetensors") == ../../blobs/$(sha256sum <"$demo/model.safetensors" | cut -d' ' -f1) ]] ||
  complain "the link of model.safetensors is $(readlink "$cache/snapshots/$one/model.safetensors")"
[[ $(readlink "$cache/snapshots/$one/additional_chat_templates/tool_use.jinja") == ../../../blobs/* ]] ||
  complain "the link in a folder does not climb"
[[ $(cat "$cache/refs/main") == "$one" ]] || complain "refs/main is $(cat "$cache/refs/main")"
[[ $(ls "$cache/blobs" | wc -l) == 6 ]] || complain "blobs: $(ls "$cache/blobs")"
grep -q 8a477f597d28d172789f06886806bc55 "$HF_HOME/hub/CACHEDIR.TAG" || complain "no CACHEDIR.TAG"
[[ $(ls "$HF_HOME/hub/.locks/models--some--demo" | wc -l) == 6 ]] || complain "locks: $(ls "$HF_HOME"/hub/.locks/*)"
nothing_half
requests 'all("useless" not in x["path"] and "onnx" not in x["path"] and "gguf" not in x["path"] for x in r)'
requests 'all(x["User-Agent"].startswith("qtool/") for x in r)'

# --- again: nothing is fetched twice, and commands need no network at all
: >"$root/log"
run 0 pull some/demo --json
json 'd["schema"] == "qtool.pull/1" and d["commit"] == "'$one'" and d["downloaded_bytes"] == 0 and len(d["files"]) == 6'
requests 'len(r) == 2 and not gets'
: >"$root/log"
run 0 tokenize some/demo "a b"
run 0 inspect some/demo --tensors --json
run 0 pull some/demo --offline
HF_HUB_OFFLINE=1 run 0 footprint some/demo --json
requests 'len(r) == 0'
fails 3 "forbids to download" inspect some/shards --offline
fails 3 "not its revision v9" inspect some/demo@v9 --offline

# --- a new commit of the branch: pull takes it, of unchanged files nothing is fetched
cp -r "$root/some/demo/$one" "$root/some/demo/$two"
echo '{"eos_token_id": 2}' >"$root/some/demo/$two/generation_config.json"
echo "{\"main\": \"$two\", \"v1\": \"$one\"}" >"$root/some/demo/refs.json"
run 0 inspect some/demo --tensors --json  # as cached
json 'd["folder"].endswith("'$one'")'
run 0 pull some/demo --json
json 'd["commit"] == "'$two'" and [f["path"] for f in d["files"] if f["downloaded"]] == ["generation_config.json"]'
rm -rf "${root:?}/some/demo/$two"
echo "{\"main\": \"$one\", \"v1\": \"$one\"}" >"$root/some/demo/refs.json"

# --- headers only: nothing of the weights but what inspect shows, from a quantized model in shards
fresh
size=$(cat "$root/some/shards/$two"/*.safetensors | wc -c)
run 0 footprint some/shards --json
cp "$work/out" "$work/remote"
run 0 footprint "$root/some/shards/$two" --json
python3 -c 'import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
sys.exit(a["schemes"] != b["schemes"])' "$work/remote" "$work/out" || complain "footprint of a Hub name differs"
run 0 inspect some/shards --json
json 'd["folder"].endswith("/snapshots/'$two'") and not [p for p in d["problems"] if p["kind"] != "note"]'
for arguments in "--tensors --json" "--tensor model.layers.1.mlp.up_proj.weight --stats --json"; do
  run 0 inspect some/shards $arguments
  cp "$work/out" "$work/remote"
  run 0 inspect "$root/some/shards/$two" $arguments
  diff <(sed 's/"folder":"[^"]*"//' "$work/remote") <(sed 's/"folder":"[^"]*"//' "$work/out") >/dev/null ||
    complain "$said: differs from the same on the Hub"
done
requests "len([x for x in gets if 'Range' not in x]) == 1"  # tokenizer.model
requests "len({x['path'] for x in gets if 'Range' in x}) == $shards"
[[ -z $(find -L "$HF_HOME/hub/models--some--shards/snapshots" -name '*.safetensors') ]] || complain "weights were downloaded"
run 0 pull some/shards --json  # now all of it
json 'sum(f["bytes"] for f in d["files"] if f["path"].endswith(".safetensors")) == '"$size"
run 0 inspect some/shards --verify --offline
nothing_half

# --- cut connections: within one run it goes on where it was cut, under the ETag it began with
fresh
faults '{"cut": [["lfs", 200000, 3]]}'
run 0 pull some/demo
same_as_server model.safetensors
nothing_half
requests 'any(x.get("Range") == "bytes=200000-" and "If-Range" in x for x in gets)'

# --- interrupted: the next run goes on where the first was
fresh
faults '{"slow": 0.05}'
"$qtool" pull some/demo >"$work/out" 2>"$work/err" &
job=$!
for _ in $(seq 100); do [[ -s $(find "$HF_HOME" -name '*.incomplete' -size +100k 2>/dev/null | head -1) ]] && break; sleep 0.05; done
kill -INT $job
wait $job
[[ $? == 130 ]] || complain "interrupted pull: not 130: $(cat "$work/err")"
[[ ! -s $work/out ]] || complain "interrupted pull prints $(cat "$work/out")"
[[ ! -e $cache/refs/main ]] || complain "interrupted pull wrote refs/main"
part=$(find "$cache/blobs" -name '*.incomplete' -size +100k | head -1)
[[ -n $part ]] || complain "interrupted pull: no part kept"
have=$(stat -c %s "$part")
faults "{}"
: >"$root/log"
run 0 pull some/demo
same_as_server model.safetensors
nothing_half
requests "[x for x in gets if x.get('Range') == 'bytes=$have-']"

# --- a server without ranges begins anew; a part that is too long or wrong does so too
fresh
mkdir -p "$cache/blobs"
blob=$cache/blobs/$(sha256sum <"$demo/model.safetensors" | cut -d' ' -f1)
head -c 300000 "$demo/model.safetensors" >"$blob.incomplete"
faults '{"no_range": true}'
run 0 pull some/demo
same_as_server model.safetensors
for part in 300000 99999999; do
  rm "$blob"
  head -c $part /dev/zero >"$blob.incomplete"
  faults "{}"
  run 0 pull some/demo
  same_as_server model.safetensors
done
nothing_half

# --- wrong bytes: once is mended, always is an error, and neither leaves a blob of that name
fresh
faults '{"wrong": [["lfs", 1]]}'
run 0 pull some/demo
err_has "not those of the file"
for name in tokenizer.model model.safetensors; do same_as_server $name; done
for file in tokenizer.model config.json; do
  fresh
  faults "{\"wrong\": [[\"$one/$file\", 99]]}"
  run 9 pull some/demo
  out_is_empty
  err_has "not those that the Hub promises"
  [[ ! -e $cache/snapshots/$one ]] || complain "wrong bytes: there is a snapshot"
  for blob in $(find "$cache/blobs" -type f ! -name '*.incomplete'); do
    [[ $(basename "$blob") == "$(git_sha1 "$blob")" || $(basename "$blob") == "$(sha256sum <"$blob" | cut -d' ' -f1)" ]] ||
      complain "wrong bytes: a blob holds them"
  done
done

# --- statuses: too many requests (Retry-After), server errors, and what is not there
fresh
faults '{"status": [["/api/", 429, 1, {"Retry-After": "2"}], ["lfs", 503, 2, {}]]}'
start=$SECONDS
run 0 pull some/demo
((SECONDS - start >= 2)) || complain "Retry-After is not obeyed"
err_has "too many requests (429)"
fresh
faults '{"status": [["/api/", 429, 99, {"Retry-After": "4000"}]]}'
run 8 pull some/demo
err_has "4000 s"
faults '{"status": [["/api/", 500, 99, {}]]}'
run 8 pull some/demo
err_has "answers 500"
requests 'len(r) == 1 + 5'
faults "{}"
fails 3 "there is no such model" pull some/nothing
fails 3 "there is no such revision" pull some/demo@v9
fails 3 "there is no such model" footprint some/nothing
fails 2 "no name of a Hub model" pull just-a-name
fails 2 "cannot be a revision" pull some/demo@../../x
fails 2 "pull what?" pull
HF_ENDPOINT="ftp://x" fails 2 "HF_ENDPOINT" pull some/demo

# --- private and gated models; the token goes to the Hub alone and appears nowhere
token=hf_a-very-secret-token
new_model gated/demo $one
cp -r "$root/some/demo/$one" "$root/gated/demo/"
fresh
secret_faults="{\"token\": {\"gated/demo\": \"$token\", \"some/demo\": \"$token\"}}"
faults "$secret_faults"
fails 8 "gated" pull gated/demo
fails 8 "check the spelling" pull some/demo
HF_TOKEN=hf_wrong fails 8 "check the spelling" pull some/demo
HF_TOKEN=$token run 0 pull some/demo -v --log-level trace
! grep -q "$token\|do-not-log-me" "$work/err" "$work/out" || complain "a secret is logged"
requests "any(x.get('Authorization') == 'Bearer $token' for x in r if x['server'] == 'hub')"
requests "gets and not any('Authorization' in x for x in gets)"
! grep -rqF "$token" "$HF_HOME" || complain "the token is in the cache"
mkdir -p "$work/hf"
echo "  $token " >"$work/hf/token"
run 0 pull gated/demo
rm "$work/hf/token"
HF_TOKEN=$(printf 'hf_x\r\nX-Evil: 1') fails 2 "characters that no token has" pull gated/demo

# --- listings that lie
fresh
for path in ../../../evil /etc/evil 'a\\evil' additional_chat_templates/../../evil.jinja; do
  faults "{\"extra\": [{\"type\": \"file\", \"path\": \"$path\", \"size\": 1, \"oid\": \"$(printf '%040d' 0)\"}]}"
  run 4 pull some/demo
  err_has "impossible name"
done
faults '{"extra": [{"type": "file", "path": "merges.txt", "size": 1, "oid": "../../evil"}]}'
run 4 pull some/demo
faults '{"extra": [{"type": "file", "path": "merges.txt", "size": -1, "oid": "'"$(printf '%040d' 0)"'"}]}'
run 4 pull some/demo
faults '{"extra": [{"type": "file", "path": "merges.txt", "size": 70000000000000, "oid": "'"$(printf '%040d' 0)"'"}]}'
run 10 pull some/demo
err_has "free"
faults '{"page": 2}'
run 0 pull some/demo  # in pages
same_as_server model.safetensors

# --- two processes: one downloads, the other waits for it
fresh
faults '{"slow": 0.02}'
"$qtool" pull some/demo >"$work/first" 2>"$work/first.err" &
job=$!
run 0 pull some/demo
wait $job || complain "the first of two processes: $(cat "$work/first.err")"
cmp -s "$work/first" "$work/out" || complain "two processes answer differently"
same_as_server model.safetensors
nothing_half
requests 'len(gets) == 2'  # tokenizer.model and model.safetensors, once each

# --- without the network, what is cached goes on: here huggingface_hub had left the tokenizer out
fresh
run 0 pull some/demo
rm "$cache/snapshots/$one/tokenizer.model"
HF_ENDPOINT=http://127.0.0.1:1 run 0 inspect some/demo --tensors
err_has "going on with what the cache holds"
run 0 tokenize some/demo "a b"  # and with it, it is completed

# --- a proxy is used where the environment names one
fresh
HF_ENDPOINT=http://hub.invalid http_proxy=http://127.0.0.1:$hub_port no_proxy=localhost run 0 pull some/demo
same_as_server model.safetensors
requests 'any(x["path"].startswith("http://hub.invalid/api/") for x in r)'

# --- certificates: the system's, or those that are named; from https no redirect leads to http
if command -v openssl >/dev/null; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
  serve "$work/certificate.pem" "$work/key.pem"
  export HF_ENDPOINT=https://127.0.0.1:$hub_port
  fresh
  run 8 pull some/demo
  err_has "certificate"
  for variable in REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE; do
    export $variable="$work/certificate.pem"
    fails 3 "there is no such model" pull some/nothing
    unset $variable
  done
  REQUESTS_CA_BUNDLE=$work/certificate.pem run 8 pull some/demo
  err_has "redirected to where qtool does not follow"
  requests 'not gets'
fi

finish
