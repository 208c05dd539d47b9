#include "formats/sentencepiece_fields.h"

#include "core/error.h"

namespace qtool {

namespace {

using ModelType = SentencePieceFields::ModelType;

enum WireType : std::uint8_t { kVarint = 0, kEightBytes = 1, kLengthAndBytes = 2, kFourBytes = 5 };
constexpr std::uint32_t kUserDefined = 4;  // ModelProto.SentencePiece.Type

// The wire form of protocol buffers: a message is a row of fields, each a key (number << 3 | wire type) and a
// value.
class Field {
 public:
  // Takes the first field off `rest`.
  Field(std::string_view& rest, const std::string& what) : what_(what) {
    const std::string_view begin = rest;
    const std::uint64_t key = take_varint(rest);
    if (key >> 32 != 0) throw malformed("a field's key has more than 32 bits");
    number_ = key >> 3;
    wire_type_ = key & 7;
    if (wire_type_ == kVarint)
      integer_ = take_varint(rest);
    else if (wire_type_ == kLengthAndBytes)
      bytes_ = take(rest, take_varint(rest));
    else if (wire_type_ == kEightBytes || wire_type_ == kFourBytes)
      take(rest, wire_type_ == kEightBytes ? 8 : 4);
    else
      throw malformed("a field has the wire type " + std::to_string(wire_type_));
    whole_ = begin.substr(0, begin.size() - rest.size());
  }

  bool is_integer(std::uint64_t number) const { return number_ == number && wire_type_ == kVarint; }
  bool is_bytes(std::uint64_t number) const { return number_ == number && wire_type_ == kLengthAndBytes; }
  std::uint32_t integer() const { return static_cast<std::uint32_t>(integer_); }  // all that an enum takes
  std::string_view bytes() const { return bytes_; }
  std::string_view whole() const { return whole_; }  // with its key

 private:
  Error malformed(const std::string& why) const {
    return Error(ExitCode::kMalformed, what_ + ": no sentencepiece model: " + why);
  }
  std::string_view take(std::string_view& rest, std::uint64_t count) const {
    if (count > rest.size()) throw malformed("it ends inside a field");
    const std::string_view taken = rest.substr(0, count);
    rest.remove_prefix(count);
    return taken;
  }
  std::uint64_t take_varint(std::string_view& rest) const {  // seven bits a byte, the lowest first
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(rest, 1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    throw malformed("a number has more than 64 bits");
  }

  const std::string& what_;
  std::uint64_t number_ = 0;
  std::uint64_t wire_type_ = 0;
  std::uint64_t integer_ = 0;
  std::string_view bytes_;
  std::string_view whole_;
};

bool is_user_defined(std::string_view piece, const std::string& what) {
  bool result = false;
  while (!piece.empty()) {
    const Field field(piece, what);
    if (field.is_integer(3)) result = field.integer() == kUserDefined;
  }
  return result;
}

void read_trainer_spec(std::string_view message, const std::string& what, SentencePieceFields& fields) {
  while (!message.empty()) {
    const Field field(message, what);
    if (field.is_integer(3) && field.integer() >= 1 && field.integer() <= 4)
      fields.model_type = static_cast<ModelType>(field.integer());
    if (field.is_integer(24)) fields.treat_whitespace_as_suffix = field.integer() != 0;
  }
}

void read_normalizer_spec(std::string_view message, const std::string& what, SentencePieceFields& fields) {
  while (!message.empty()) {
    const Field field(message, what);
    if (field.is_bytes(2)) fields.precompiled_charsmap = field.bytes();
    if (field.is_integer(3)) fields.add_dummy_prefix = field.integer() != 0;
  }
}

}  // namespace

SentencePieceFields read_sentencepiece_fields(std::string_view content, const std::string& what) {
  SentencePieceFields fields;
  TokenId id = 0;
  while (!content.empty()) {
    const Field field(content, what);
    if (field.is_bytes(1)) {
      if (is_user_defined(field.bytes(), what)) fields.user_defined.push_back(id);
      ++id;
    }
    if (field.is_bytes(2)) read_trainer_spec(field.bytes(), what, fields);
    if (field.is_bytes(3)) read_normalizer_spec(field.bytes(), what, fields);
    if (field.is_bytes(1) || field.is_bytes(2)) fields.segmentation += field.whole();
  }
  return fields;
}

}  // namespace qtool
