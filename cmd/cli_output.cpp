// The two streams: the payload on stdout, everything else on stderr.
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "cmd/cli.h"
#include "core/interrupt.h"

namespace qtool {
namespace {

// "warning: " before what is not plain information; messages themselves are sentences.
class Prefix : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    if (message.level == spdlog::level::info) return;
    const auto name = spdlog::level::to_string_view(message.level);
    out.append(name.data(), name.data() + name.size());
    constexpr std::string_view kSeparator = ": ";
    out.append(kSeparator.data(), kSeparator.data() + kSeparator.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return spdlog::details::make_unique<Prefix>();
  }
};

// The message as it may be shown: names in it come from files.
class Sentence : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = escaped({message.payload.data(), message.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return spdlog::details::make_unique<Sentence>();
  }
};

std::unique_ptr<spdlog::formatter> formatter_of(const std::string& pattern) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<Prefix>('*').add_flag<Sentence>('V').set_pattern(pattern);
  return formatter;
}

spdlog::color_mode color_of(const CommonOptions& common) {
  if (common.color == "always") return spdlog::color_mode::always;
  const char* no_color = std::getenv("NO_COLOR");
  const bool unwanted = no_color != nullptr && *no_color != '\0';
  return common.color == "never" || unwanted ? spdlog::color_mode::never : spdlog::color_mode::automatic;
}

spdlog::level::level_enum level_of(const CommonOptions& common) {
  if (common.log_level.empty())
    return common.quiet ? spdlog::level::err : common.verbose ? spdlog::level::debug : spdlog::level::info;
  for (const char* known : {"trace", "debug", "info", "warning", "error", "off"})
    if (common.log_level == known) return spdlog::level::from_str(common.log_level);
  throw Error(ExitCode::kUsage, "--log-level must be trace, debug, info, warning, error or off, is '" +
                                    escaped(common.log_level) + "'");
}

void write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      throw ClosedPipe();
    } else if (errno == EINTR) {
      stop_if_interrupted();
    } else {
      throw Error(ExitCode::kIo, std::string("cannot write to stdout: ") + std::strerror(errno));
    }
  }
}

// JSON in which what a terminal would act on is written as \uXXXX: a document names what strangers named.
std::string harmless(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (std::size_t at = 0; at < json.size();) {
    const auto lead = static_cast<unsigned char>(json[at]);
    if (lead < 0x7f) {  // the library has escaped control characters
      out += json[at++];
      continue;
    }
    const std::string character = json.substr(at, lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4);
    if (escaped(character) == character) {
      out += character;
    } else {
      const std::string quoted = Json(character).dump(-1, ' ', true);
      out.append(quoted, 1, quoted.size() - 2);
    }
    at += character.size();
  }
  return out;
}

}  // namespace

void start_logging(const CommonOptions& common) {
  auto terminal = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(color_of(common));
  terminal->set_formatter(formatter_of("%^%*%$%V"));
  auto logger = std::make_shared<spdlog::logger>("qtool", terminal);
  logger->set_level(level_of(common));
  if (!common.log_file.empty()) {
    std::FILE* const file = std::fopen(common.log_file.c_str(), "a");  // asked here, for the sentence
    if (file == nullptr)
      throw Error(ExitCode::kIo,
                  "--log-file: cannot append to " + escaped(common.log_file) + ": " + std::strerror(errno),
                  common.log_file);
    std::fclose(file);
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(common.log_file);
    sink->set_formatter(formatter_of("%Y-%m-%dT%H:%M:%S.%e%z %l %V"));
    logger->sinks().push_back(sink);
  }
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(logger);
}

void print_out(std::string_view text) {
  stop_if_interrupted();
  write_all(text);
}

void print_json(const Json& document) {
  // Text that is no UTF-8 can only come from file names; U+FFFD stands for it.
  print_out(harmless(document.dump(-1, ' ', false, Json::error_handler_t::replace)) + "\n");
}

Json json_of(const Error& error) {
  return {{"code", static_cast<int>(error.code())},
          {"kind", kind_of(error.code())},
          {"message", escaped(error.what())},
          {"path", error.path().empty() ? Json() : Json(escaped(error.path()))}};
}

int report(const Error& error, const std::string& program, bool json) {
  const int code = static_cast<int>(error.code());
  const std::string sentence = escaped(error.what());
  std::string line;
  if (json) {
    line = Json{{"schema", "qtool.error/1"}, {"error", json_of(error)}}.dump();
  } else {
    line = program + ": " + sentence;
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  const auto& sinks = spdlog::default_logger_raw()->sinks();
  if (sinks.size() > 1) {  // the log file
    sinks.back()->log({"qtool", spdlog::level::err, sentence});
    sinks.back()->flush();
  }
  return code;
}

std::string human_bytes(std::int64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* next : {"kB", "MB", "GB", "TB", "PB", "EB"}) {
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  char text[32];
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(text, sizeof text, "%.*f %s", decimals, value, unit);
  return text;
}

}  // namespace qtool
