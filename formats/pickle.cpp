#include "formats/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "core/error.h"
#include "core/limits.h"

namespace qtool {
namespace {

enum class Kind : std::uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kText,     // index into texts_
  kTuple,    // index into items_; also lists
  kDict,     // index into items_: key, value, key, value, ...
  kGlobal,   // a known constructor, by its row in kConstructors
  kStorage,  // index into storages_
  kTensor,   // index into tensors_
};

enum class Maker : std::uint8_t { kOrderedDict, kTensor, kParameter, kStorage };

struct Constructor {
  std::string_view name;  // module and name, as a GLOBAL instruction has them
  Maker maker;
  DType dtype = DType::kF32;  // of storages
};
constexpr std::array<Constructor, 13> kConstructors{{
    {"collections OrderedDict", Maker::kOrderedDict},
    {"torch._utils _rebuild_tensor_v2", Maker::kTensor},
    {"torch._utils _rebuild_parameter", Maker::kParameter},
    {"torch DoubleStorage", Maker::kStorage, DType::kF64},
    {"torch FloatStorage", Maker::kStorage, DType::kF32},
    {"torch HalfStorage", Maker::kStorage, DType::kF16},
    {"torch BFloat16Storage", Maker::kStorage, DType::kBF16},
    {"torch LongStorage", Maker::kStorage, DType::kI64},
    {"torch IntStorage", Maker::kStorage, DType::kI32},
    {"torch ShortStorage", Maker::kStorage, DType::kI16},
    {"torch CharStorage", Maker::kStorage, DType::kI8},
    {"torch ByteStorage", Maker::kStorage, DType::kU8},
    {"torch BoolStorage", Maker::kStorage, DType::kBool},
}};

// A value of the program. Values refer to each other by number, so that neither sharing nor cycles nor depth
// cost anything; and they are small, because a byte of a hostile pickle makes one.
struct Value {
  Kind kind = Kind::kNone;
  std::int64_t number = 0;  // kBool, kInt: itself; else an index into the machine's list of such things
};

class Machine {
 public:
  Machine(std::string_view pickle, const std::string& what) : rest_(pickle), what_(what) {}

  std::vector<PickledTensor> run() {
    while (!done_) step();
    return state_dict();
  }

 private:
  [[noreturn]] void fail(const std::string& message, ExitCode code = ExitCode::kMalformed) const {
    throw Error(code, what_ + ": " + message);
  }

  // --- the program

  std::string_view take(std::size_t bytes) {
    if (rest_.size() < bytes) fail("the pickle is cut off");
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const auto end = rest_.find('\n');
    if (end == std::string_view::npos) fail("the pickle is cut off");
    const std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }

  // --- the stack

  void push(Value value) {
    values_.push_back(value);
    stack_.push_back(values_.size() - 1);
  }
  void push_int(std::int64_t value) { push({Kind::kInt, value}); }
  void push_text(std::string_view text) {
    texts_.push_back(text);
    push({Kind::kText, std::ssize(texts_) - 1});
  }
  void push_items(Kind kind, std::vector<std::size_t> items) {
    items_.push_back(std::move(items));
    push({kind, std::ssize(items_) - 1});
  }
  std::size_t pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("the pickle takes what it has not put");
    const std::size_t value = stack_.back();
    stack_.pop_back();
    return value;
  }
  std::vector<std::size_t> pop_to_mark() {
    if (marks_.empty()) fail("the pickle returns to a mark it has not set");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    marks_.pop_back();
    std::vector<std::size_t> values(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return values;
  }
  void push_tuple(std::size_t count) {
    std::vector<std::size_t> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_items(Kind::kTuple, std::move(items));
  }
  // What a value of that kind stands for: its number or index.
  std::size_t of_kind(std::size_t value, Kind kind, const char* needed) const {
    if (values_[value].kind != kind)
      fail(std::string("the pickle has something else where ") + needed + " is due");
    return static_cast<std::size_t>(values_[value].number);
  }
  std::string_view text_of(std::size_t value, const char* needed) const {
    return texts_[of_kind(value, Kind::kText, needed)];
  }
  const std::vector<std::size_t>& tuple_of(std::size_t value, const char* needed) const {
    return items_[of_kind(value, Kind::kTuple, needed)];
  }
  void append_to_top(const std::vector<std::size_t>& items, Kind kind) {
    const std::size_t target = pop();
    stack_.push_back(target);
    std::vector<std::size_t>& held =
        items_[of_kind(target, kind, kind == Kind::kDict ? "a dictionary" : "a list")];
    if (kind == Kind::kDict && items.size() % 2 != 0) fail("the pickle has a key without a value");
    held.insert(held.end(), items.begin(), items.end());
  }

  void remember(std::uint64_t key) {
    if (stack_.empty()) fail("the pickle remembers what it has not put");
    memo_[key] = stack_.back();
  }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("the pickle recalls what it has not remembered");
    stack_.push_back(found->second);
  }

  // --- instructions

  void step() {
    const char code = take(1)[0];
    switch (code) {
      case '\x80':  // PROTO
        if (const auto version = number<std::uint8_t>(); version > 5)
          fail("pickle protocol " + std::to_string(version) + " is not supported", ExitCode::kUnsupported);
        return;
      case '\x95':  // FRAME: a length that helps streams
        number<std::uint64_t>();
        return;
      case '.':  // STOP
        done_ = true;
        return;
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return;
      case 'N':
        return push({});
      case '\x88':
      case '\x89':
        return push({Kind::kBool, code == '\x88'});
      case 'K':
        return push_int(number<std::uint8_t>());
      case 'M':
        return push_int(number<std::uint16_t>());
      case 'J':
        return push_int(number<std::int32_t>());
      case '\x8a':  // LONG1
        return push_long(number<std::uint8_t>());
      case 'G':  // BINFLOAT, of which no state_dict makes use
        take(8);
        return push({Kind::kFloat});
      case 'X':
        return push_text(take(number<std::uint32_t>()));
      case '\x8c':
        return push_text(take(number<std::uint8_t>()));
      case ')':
      case ']':
        return push_items(Kind::kTuple, {});
      case '}':
        return push_items(Kind::kDict, {});
      case 't':
        return push_items(Kind::kTuple, pop_to_mark());
      case '\x85':
      case '\x86':
      case '\x87':
        return push_tuple(static_cast<std::size_t>(code - '\x85' + 1));
      case 'a': {
        const std::size_t item = pop();
        return append_to_top({item}, Kind::kTuple);
      }
      case 'e':
        return append_to_top(pop_to_mark(), Kind::kTuple);
      case 's': {
        const std::size_t value = pop(), key = pop();
        return append_to_top({key, value}, Kind::kDict);
      }
      case 'u':
        return append_to_top(pop_to_mark(), Kind::kDict);
      case 'q':
        return remember(number<std::uint8_t>());
      case 'r':
        return remember(number<std::uint32_t>());
      case '\x94':  // MEMOIZE
        return remember(memo_.size());
      case 'h':
        return recall(number<std::uint8_t>());
      case 'j':
        return recall(number<std::uint32_t>());
      case 'c': {
        const std::string_view module = line();
        return push_global(module, line());
      }
      case '\x93': {  // STACK_GLOBAL
        const std::string_view name = text_of(pop(), "a name");
        return push_global(text_of(pop(), "a module's name"), name);
      }
      case 'Q':
        return push_storage();
      case 'R':
        return reduce();
      case 'b': {  // BUILD: attributes of the dictionary (_metadata), which are no tensors
        pop();
        const std::size_t target = pop();
        of_kind(target, Kind::kDict, "a dictionary");
        stack_.push_back(target);
        return;
      }
      default:
        fail("the pickle has the instruction " + instruction(code) +
             ", which no saved state_dict needs; qtool reads only what rebuilds tensors, and runs nothing");
    }
  }

  static std::string instruction(char code) {
    static constexpr char kDigits[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(code);
    return code >= '!' && code <= '~' ? std::string("'") + code + "'"
                                      : std::string("0x") + kDigits[byte / 16] + kDigits[byte % 16];
  }

  void push_long(std::size_t bytes) {
    const std::string_view digits = take(bytes);
    if (bytes > 8) fail("the pickle has a number of more than 64 bits");
    std::uint64_t value = bytes > 0 && (digits[bytes - 1] & '\x80') ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, digits.data(), bytes);
    push_int(static_cast<std::int64_t>(value));
  }

  void push_global(std::string_view module, std::string_view name) {
    const std::string asked = std::string(module) + " " + std::string(name);
    for (std::size_t i = 0; i < kConstructors.size(); ++i)
      if (kConstructors[i].name == asked) return push({Kind::kGlobal, static_cast<std::int64_t>(i)});
    fail("the pickle asks for '" + escaped(std::string(module)) + "." + escaped(std::string(name)) +
         "', which is no part of a tensor; it may be code that runs when it is loaded, so qtool refuses it");
  }

  const Constructor& constructor_at(std::size_t value) {
    return kConstructors[of_kind(value, Kind::kGlobal, "a constructor")];
  }

  // ("storage", torch.FloatStorage, "0", "cpu", 12)
  void push_storage() {
    const std::vector<std::size_t>& id = tuple_of(pop(), "a storage's id");
    if (id.size() != 5 || text_of(id[0], "the word 'storage'") != "storage")
      fail("the pickle has a persistent id that is no storage's");
    const Constructor& type = constructor_at(id[1]);
    if (type.maker != Maker::kStorage) fail("the pickle has a storage without a type");
    PickledTensor storage;
    storage.storage = text_of(id[2], "a storage's key");
    storage.dtype = type.dtype;
    storage.storage_elements = natural(id[4], "a storage's size");
    storages_.push_back(std::move(storage));
    push({Kind::kStorage, std::ssize(storages_) - 1});
  }

  std::int64_t natural(std::size_t value, const char* what) {
    const auto number = static_cast<std::int64_t>(of_kind(value, Kind::kInt, what));
    if (number < 0 || number >> 48) fail(std::string(what) + " is out of range: " + std::to_string(number));
    return number;
  }

  std::vector<std::int64_t> naturals(std::size_t value, const char* what) {
    const std::vector<std::size_t>& items = tuple_of(value, what);
    if (std::ssize(items) > kMaxDimensions) fail("a tensor of more than 64 dimensions");
    std::vector<std::int64_t> numbers;
    for (const std::size_t item : items) numbers.push_back(natural(item, what));
    return numbers;
  }

  void reduce() {
    const std::vector<std::size_t>& arguments = tuple_of(pop(), "a constructor's arguments");
    const Constructor& constructor = constructor_at(pop());
    switch (constructor.maker) {
      case Maker::kOrderedDict:
        if (!arguments.empty()) fail("the pickle fills an OrderedDict in a way that torch does not");
        return push_items(Kind::kDict, {});
      case Maker::kTensor: {  // storage, offset, shape, strides, requires_grad, hooks[, metadata]
        if (arguments.size() < 4) fail("the pickle describes a tensor without a shape");
        PickledTensor tensor = storages_[of_kind(arguments[0], Kind::kStorage, "a tensor's storage")];
        tensor.offset = natural(arguments[1], "a tensor's offset");
        tensor.shape = naturals(arguments[2], "a tensor's shape");
        tensor.strides = naturals(arguments[3], "a tensor's strides");
        if (tensor.shape.size() != tensor.strides.size()) fail("a tensor with fewer strides than dimensions");
        tensors_.push_back(std::move(tensor));
        return push({Kind::kTensor, std::ssize(tensors_) - 1});
      }
      case Maker::kParameter:  // the tensor itself, requires_grad, hooks
        if (arguments.empty()) fail("the pickle describes a parameter without a tensor");
        of_kind(arguments[0], Kind::kTensor, "a parameter's tensor");
        stack_.push_back(arguments[0]);
        return;
      case Maker::kStorage:
        fail("the pickle makes a storage out of nothing");
    }
  }

  // --- the result

  std::vector<PickledTensor> state_dict() {
    const std::vector<std::size_t>& items = items_[of_kind(pop(), Kind::kDict, "a dictionary of tensors")];
    std::vector<PickledTensor> tensors;
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const std::string name(text_of(items[i], "a tensor's name"));
      if (values_[items[i + 1]].kind != Kind::kTensor)
        fail("'" + escaped(name) + "' is no tensor: this is no state_dict of a model");
      tensors.push_back(tensors_[of_kind(items[i + 1], Kind::kTensor, "a tensor")]);
      tensors.back().name = name;
    }
    return tensors;
  }

  std::string_view rest_;
  const std::string& what_;
  bool done_ = false;
  std::vector<Value> values_;
  std::vector<std::string_view> texts_;          // within the pickle, which outlives the machine
  std::vector<std::vector<std::size_t>> items_;  // numbers of values
  std::vector<std::size_t> stack_;               // numbers of values
  std::vector<std::size_t> marks_;               // heights of the stack
  std::unordered_map<std::uint64_t, std::size_t> memo_;
  std::vector<PickledTensor> storages_;  // without shape
  std::vector<PickledTensor> tensors_;   // without name
};

}  // namespace

std::vector<PickledTensor> read_state_dict(std::string_view pickle, const std::string& what) {
  return Machine(pickle, what).run();
}

}  // namespace qtool
