// What the environment says about the Hub: the variables of huggingface_hub, under its rules.
#pragma once

#include <chrono>
#include <string>

namespace qtool {

struct HubSettings {
  // Holds models--ORG--NAME. HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, $HF_HOME/hub,
  // $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub: the first that is set; "~" and $VARIABLES in
  // them are expanded.
  std::string cache;
  std::string endpoint;  // HF_ENDPOINT, without a '/' at its end: "https://huggingface.co"
  // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, the file HF_TOKEN_PATH or $HF_HOME/token; empty: none, or
  // HF_HUB_DISABLE_IMPLICIT_TOKEN is set. Never to be printed.
  std::string token;
  bool offline = false;              // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is 1, on, yes or true
  std::string ca_file;               // REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, SSL_CERT_FILE; empty: the system's
  std::string ca_folder;             // SSL_CERT_DIR, or any of those if it is a folder
  std::chrono::seconds timeout{30};  // of a silent connection: HF_HUB_DOWNLOAD_TIMEOUT
  std::chrono::milliseconds pause{500};  // before the second try; doubles
  std::string user_agent = "qtool";
};

// Errors: kUsage, when a variable's value cannot be used.
HubSettings hub_settings();

}  // namespace qtool
