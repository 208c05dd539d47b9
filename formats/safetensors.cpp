#include "formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/json.h"

namespace qtool {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and is used as it lies");

constexpr std::int64_t kLengthWord = 8;

// One header under validation: every failure names the file, and the tensor where there is one.
class HeaderReader {
 public:
  explicit HeaderReader(const InputFile& file) : file_(file) {}

  SafetensorsHeader read() {
    const Json json = parse();
    SafetensorsHeader header;
    header.data_begin = data_begin_;
    for (const auto& [name, value] : json.items()) {
      if (name == "__metadata__")
        header.metadata = metadata(value);
      else
        header.tensors.push_back(tensor(name, value));
    }
    check_tiling(header.tensors);
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& message, ExitCode code = ExitCode::kMalformed) const {
    throw Error(code, escaped(file_.path()) + ": " + message, file_.path());
  }
  [[noreturn]] void fail(const std::string& name, const std::string& message,
                         ExitCode code = ExitCode::kMalformed) const {
    fail("tensor '" + escaped(name) + "' " + message, code);
  }

  Json parse() {
    if (file_.size() < kLengthWord)
      fail("no safetensors file: it has only " + std::to_string(file_.size()) + " bytes");
    std::uint64_t length = 0;
    file_.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > std::uint64_t{kMaxHeaderBytes})
      fail("no safetensors file: its header would have " + std::to_string(length) +
           " bytes, more than the format's " + std::to_string(kMaxHeaderBytes));
    data_begin_ = kLengthWord + static_cast<std::int64_t>(length);
    if (data_begin_ > file_.size())
      fail("cut off: the header ends at byte " + std::to_string(data_begin_) + ", the file at " +
           std::to_string(file_.size()));
    std::string text(length, '\0');
    file_.read_at(kLengthWord, std::as_writable_bytes(std::span(text)));
    if (text.empty() || text[0] != '{') fail("no safetensors file: its header does not begin with '{'");
    try {
      Json json = parse_json(text, "header", kMaxHeaderMemory);
      return json;
    } catch (const Error& error) {
      throw error.within(escaped(file_.path()), file_.path());
    }
  }

  std::map<std::string, std::string> metadata(const Json& value) const {
    std::map<std::string, std::string> out;
    if (!value.is_object()) fail("__metadata__ must be an object of strings");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string())
        fail("__metadata__ must be an object of strings, but '" + escaped(key) + "' is none");
      out[key] = text.get<std::string>();
    }
    return out;
  }

  // A count, offset or extent: below 2^62, so that sums of two cannot overflow.
  std::int64_t number(const std::string& name, const Json& value, const char* what) const {
    if (!value.is_number_unsigned()) fail(name, std::string("has a ") + what + " that is no natural number");
    const auto number = value.get<std::uint64_t>();
    if (number >> 62)
      fail(name, std::string("has a ") + what + " beyond all bounds: " + std::to_string(number));
    return static_cast<std::int64_t>(number);
  }

  TensorInfo tensor(const std::string& name, const Json& value) const {
    TensorInfo info;
    if (name.size() > kMaxNameBytes)
      fail(name.substr(0, 60) + "...", "has a name of " + std::to_string(name.size()) + " bytes, more than " +
                                           std::to_string(kMaxNameBytes));
    info.name = name;
    for (const char* key : {"dtype", "shape", "data_offsets"})
      if (!value.is_object() || !value.contains(key)) fail(name, std::string("has no ") + key);

    const Json& dtype = value["dtype"];
    if (!dtype.is_string()) fail(name, "has a dtype that is no string");
    info.dtype = dtype_of(name, dtype.get<std::string>());

    if (!value["shape"].is_array()) fail(name, "has a shape that is no list");
    if (std::ssize(value["shape"]) > kMaxDimensions)
      fail(name, "has " + std::to_string(value["shape"].size()) + " dimensions, more than " +
                     std::to_string(kMaxDimensions));
    std::int64_t bytes = size_of(info.dtype);
    for (const Json& extent : value["shape"]) {
      info.shape.push_back(number(name, extent, "shape extent"));
      if (__builtin_mul_overflow(bytes, info.shape.back(), &bytes))
        fail(name, "has more bytes than can be counted");
    }

    const Json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) fail(name, "has data_offsets that are no pair");
    const std::int64_t begin = number(name, offsets[0], "data offset");
    const std::int64_t end = number(name, offsets[1], "data offset");
    if (end < begin)
      fail(name, "ends before it begins: data_offsets [" + std::to_string(begin) + ", " +
                     std::to_string(end) + "]");
    if (end - begin != bytes)
      fail(name, "has " + std::to_string(end - begin) + " bytes, but its shape and dtype need " +
                     std::to_string(bytes));
    info.begin = data_begin_ + begin;
    info.bytes = bytes;
    return info;
  }

  DType dtype_of(const std::string& name, const std::string& text) const {
    for (const DTypeInfo& row : kDTypes)
      if (row.name == text) return row.dtype;
    std::string known;
    for (const DTypeInfo& row : kDTypes) known += (known.empty() ? "" : ", ") + std::string(row.name);
    fail(name, "has dtype '" + escaped(text) + "', which qtool does not know; it knows " + known,
         ExitCode::kUnsupported);
  }

  // Sorts by place; the data section must be covered from its first to its last byte, every byte once.
  void check_tiling(std::vector<TensorInfo>& tensors) const {
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.bytes < b.bytes;
    });
    std::int64_t at = data_begin_;
    for (const TensorInfo& tensor : tensors) {
      if (tensor.begin < at) fail(tensor.name, "overlaps the tensor before it");
      if (tensor.begin > at)
        fail(tensor.name, "leaves a hole of " + std::to_string(tensor.begin - at) + " bytes before it");
      at += tensor.bytes;
    }
    if (at > file_.size())
      fail("cut off: its tensors end at byte " + std::to_string(at) + ", the file at " +
           std::to_string(file_.size()));
    if (at < file_.size()) fail(std::to_string(file_.size() - at) + " bytes at the end belong to no tensor");
  }

  const InputFile& file_;
  std::int64_t data_begin_ = 0;
};

// As serde_json escapes: quote, backslash, control characters; everything else is written as it is.
void append_quoted(const std::string& text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += kHex[c >> 4];
          out += kHex[c & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

}  // namespace

SafetensorsHeader read_safetensors_header(const InputFile& file) { return HeaderReader(file).read(); }

SafetensorsLayout layout_of(std::vector<TensorSpec> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const int rank_a = info(a.dtype).file_rank;
    const int rank_b = info(b.dtype).file_rank;
    return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
  });

  SafetensorsLayout layout;
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::int64_t offset = 0;
  for (TensorSpec& tensor : tensors) {
    const std::int64_t bytes = count_of(tensor.shape) * size_of(tensor.dtype);
    header += ',';
    append_quoted(tensor.name, header);
    header += ":{\"dtype\":\"" + std::string(info(tensor.dtype).name) + "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i)
      header += (i ? "," : "") + std::to_string(tensor.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + bytes) + "]}";
    layout.tensors.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.shape), offset, bytes});
    offset += bytes;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');

  const std::uint64_t length = header.size();
  layout.prefix.resize(sizeof length);
  std::memcpy(layout.prefix.data(), &length, sizeof length);
  layout.prefix += header;
  const auto data_begin = static_cast<std::int64_t>(layout.prefix.size());
  for (TensorInfo& tensor : layout.tensors) tensor.begin += data_begin;
  layout.file_bytes = data_begin + offset;
  return layout;
}

}  // namespace qtool
