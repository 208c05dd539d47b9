#include "formats/json.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/file.h"

namespace qtool {
namespace {

// How far the parser has read, and had when it last told of something: its events carry no position.
struct Progress {
  const char* read;  // behind the last character
  const char* told;
};

struct LongToken {};  // thrown in the middle of one

// Characters of the text. The parser holds three copies of a string before it tells of it, so the iterator
// bounds its length.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, Progress* progress) : at_(at), progress_(progress) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    progress_->read = ++at_;
    if (at_ - progress_->told > kMaxJsonTokenBytes) throw LongToken();
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  Progress* progress_;
};

// What values take in memory, as the allocator rounds it.
std::int64_t allocated(std::size_t bytes) {
  return std::max<std::int64_t>(32, (static_cast<std::int64_t>(bytes) + 8 + 15) / 16 * 16);
}

std::int64_t memory_of_text(std::size_t bytes) {
  static const std::size_t kWithin = std::string().capacity();  // no memory of their own up to here
  return bytes > kWithin ? allocated(bytes + 1) : 0;
}

// Besides its place in an array or object, and its elements.
std::int64_t memory_of(const Json& value) {
  // A string has the parser's buffer, which may have held a longer one.
  if (value.is_string())
    return allocated(sizeof(std::string)) + memory_of_text(value.get_ref<const std::string&>().capacity());
  if (value.is_object()) return allocated(sizeof(Json::object_t));
  if (value.is_array()) return allocated(sizeof(Json::array_t)) + allocated(0) / 2;  // ... and rounding
  return 0;
}

// A member of an object: a node of a tree, with its name and value.
std::int64_t memory_of_member(const std::string& name) {
  return allocated(4 * sizeof(void*) + sizeof(Json::object_t::value_type)) + memory_of_text(name.size());
}

std::string shortened(std::string text, std::size_t limit) {
  if (text.size() > limit) text = text.substr(0, limit) + "...";
  return escaped(text);
}

// Builds the value from the parser's events and refuses what the parser itself lets pass.
class Builder {
 public:
  Builder(std::string_view text, const std::string& what, std::int64_t max_memory)
      : text_(text), what_(what), progress_{text.data(), text.data()}, max_memory_(max_memory) {}

  Json build() {
    // The library takes a zero byte for the end of the text and passes over a byte order mark: what follows
    // the first would be read by others, and the second is refused by Python's reader and safetensors'.
    if (const std::size_t zero = text_.find('\0'); zero != std::string_view::npos)
      fail(zero, "a zero byte, which JSON does not have");
    if (text_.starts_with("\xEF\xBB\xBF")) fail(0, "begins with a byte order mark; save it without");
    try {
      Json::sax_parse(CountingIterator(text_.data(), &progress_),
                      CountingIterator(text_.data() + text_.size(), &progress_), this);
    } catch (const LongToken&) {
      fail(offset(),
           "a string, a number or a gap of more than " + std::to_string(kMaxJsonTokenBytes) + " bytes");
    }
    return std::move(root_);
  }

  // --- the events nlohmann's parser calls
  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) { return put(value); }
  bool number_float(double value, const std::string& /*digits*/) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(Json::binary_t& /*value*/) { return false; }  // not in JSON text
  bool start_object(std::size_t /*size*/) { return open(Json::object()); }
  bool start_array(std::size_t /*size*/) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    progress_.told = progress_.read;
    Json& object = *open_.back();
    if (object.contains(name)) fail(offset(), "duplicate key '" + shortened(name, 100) + "'");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*token*/, const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
    std::string message = error.what();
    if (const auto end = message.find("] "); end != std::string::npos) message.erase(0, end + 2);
    if (const auto column = message.find(", column "); column != std::string::npos)
      message.erase(0, std::min(message.find(": ", column), message.size() - 2) + 2);
    const std::size_t at = position ? std::min(position - 1, text_.size()) : offset();
    if (names_no_number(at)) message += "; NaN and Infinity are not JSON";
    fail(at, shortened(message, 240));
  }

 private:
  bool put(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (open_.size() >= kMaxJsonDepth)
      fail(offset(), "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    progress_.told = progress_.read;
    open_.pop_back();
    return true;
  }

  // Puts a value where the document goes on. A pointer into an array stays valid: the array grows again only
  // after the element is closed.
  Json* place(Json value) {
    progress_.told = progress_.read;
    take(memory_of(value));
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& container = *open_.back();
    if (container.is_array()) {
      auto& array = container.get_ref<Json::array_t&>();
      longest_ = std::max(longest_, array.size());
      take(sizeof(Json));
      container.push_back(std::move(value));
      return &container.back();
    }
    take(memory_of_member(key_));
    return &(container[key_] = std::move(value));
  }

  // The longest list counts three times: it lies there twice while it grows, and the library gathers its
  // elements in another growing list to destroy them.
  void take(std::int64_t bytes) {
    memory_ += bytes;
    if (memory_ + static_cast<std::int64_t>(2 * longest_ * sizeof(Json)) > max_memory_)
      fail(offset(), "its values take more than " + std::to_string(max_memory_) + " bytes of memory");
  }

  std::size_t offset() const {
    const auto read = static_cast<std::size_t>(progress_.read - text_.data());
    return read ? read - 1 : 0;
  }

  bool names_no_number(std::size_t at) const {
    const std::size_t begin = at >= 9 ? at - 9 : 0;
    const std::string_view around = text_.substr(begin, at - begin + 9);
    return around.find("NaN") != std::string_view::npos || around.find("Infinity") != std::string_view::npos;
  }

  [[noreturn]] void fail(std::size_t at, const std::string& message) const {
    const std::string_view before = text_.substr(0, at);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0: the first line
    throw Error(ExitCode::kMalformed, what_ + ":" + std::to_string(line) + ":" +
                                          std::to_string(at - line_begin + 1) + ": " + message);
  }

  std::string_view text_;
  const std::string& what_;
  Progress progress_;
  std::int64_t max_memory_;
  std::int64_t memory_ = 0;  // of the values so far
  std::size_t longest_ = 0;  // elements of a list
  Json root_;
  std::vector<Json*> open_;  // the containers around the next value, outermost first
  std::string key_;
};

std::string shown(const Json& value) {
  return shortened(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
}

[[noreturn]] void wrong_type(const Json& value, const char* key, const std::string& what,
                             const char* wanted) {
  throw Error(ExitCode::kMalformed, what + ": '" + key + "' must be " + wanted + ", is " + shown(value));
}

// The value of `key`, or nullptr when it is absent or null.
const Json* find(const Json& object, const char* key, const std::string& what) {
  if (!object.is_object())
    throw Error(ExitCode::kMalformed, what + ": must be an object, is " + shown(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t to_int(const Json& value, const char* key, const std::string& what) {
  if (!value.is_number_integer()) wrong_type(value, key, what, "an integer");
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
    wrong_type(value, key, what, "an integer of at most 63 bits");
  return value.get<std::int64_t>();
}

}  // namespace

Json parse_json(std::string_view text, const std::string& what, std::int64_t max_memory) {
  return Builder(text, what, max_memory).build();
}

Json read_json_file(const std::string& path, JsonBounds bounds) {
  try {
    return parse_json(read_file(path, bounds.bytes), path, bounds.memory);
  } catch (const Error& error) {
    throw Error(error.code(), error.what(), path);
  }
}

std::int64_t required_int(const Json& object, const char* key, const std::string& what) {
  const Json* value = find(object, key, what);
  if (!value) throw Error(ExitCode::kMalformed, what + ": '" + key + "' is missing");
  return to_int(*value, key, what);
}

std::int64_t optional_int(const Json& object, const char* key, std::int64_t fallback,
                          const std::string& what) {
  const Json* value = find(object, key, what);
  return value ? to_int(*value, key, what) : fallback;
}

double optional_number(const Json& object, const char* key, double fallback, const std::string& what) {
  const Json* value = find(object, key, what);
  if (value && !value->is_number()) wrong_type(*value, key, what, "a number");
  return value ? value->get<double>() : fallback;
}

bool optional_bool(const Json& object, const char* key, bool fallback, const std::string& what) {
  const Json* value = find(object, key, what);
  if (value && !value->is_boolean()) wrong_type(*value, key, what, "true or false");
  return value ? value->get<bool>() : fallback;
}

std::string optional_string(const Json& object, const char* key, const std::string& fallback,
                            const std::string& what) {
  const Json* value = find(object, key, what);
  if (value && !value->is_string()) wrong_type(*value, key, what, "a string");
  return value ? value->get<std::string>() : fallback;
}

std::vector<double> optional_numbers(const Json& object, const char* key, const std::string& what) {
  const Json* value = find(object, key, what);
  if (!value) return {};
  if (!value->is_array()) wrong_type(*value, key, what, "a list of numbers");
  std::vector<double> numbers;
  for (const Json& element : *value) {
    if (!element.is_number()) wrong_type(*value, key, what, "a list of numbers");
    numbers.push_back(element.get<double>());
  }
  return numbers;
}

}  // namespace qtool
