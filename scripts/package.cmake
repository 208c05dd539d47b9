# What `cmake --install` puts where, and the Debian package (`cpack -G DEB` in the build folder).
include(GNUInstallDirs)

# Completions and the manual page are printed by the program itself, from the declarations of its options.
set(documents ${PROJECT_BINARY_DIR}/documents)
file(MAKE_DIRECTORY ${documents})
set(qtool_documents "")
function(qtool_document file destination)
  add_custom_command(OUTPUT ${documents}/${file} COMMAND qtool ${ARGN} > ${documents}/${file} DEPENDS qtool VERBATIM)
  list(APPEND qtool_documents ${documents}/${file})
  set(qtool_documents ${qtool_documents} PARENT_SCOPE)
  install(FILES ${documents}/${file} DESTINATION ${destination})
endfunction()
qtool_document(qtool ${CMAKE_INSTALL_DATADIR}/bash-completion/completions completions bash)
qtool_document(_qtool ${CMAKE_INSTALL_DATADIR}/zsh/site-functions completions zsh)
qtool_document(qtool.fish ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d completions fish)
qtool_document(qtool.1 ${CMAKE_INSTALL_MANDIR}/man1 manual)
add_custom_target(qtool_documents ALL DEPENDS ${qtool_documents})

install(TARGETS qtool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY test/data/demo/ DESTINATION ${CMAKE_INSTALL_DATADIR}/qtool/demo)

# Debian's own places, in its package only: its zsh does not look into site-functions.
install(FILES ${documents}/_qtool DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT debian
  EXCLUDE_FROM_ALL)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/qtool RENAME copyright COMPONENT debian EXCLUDE_FROM_ALL)

# A build without CUDA is the package qtool, one with CUDA qtool-cuda, which takes its place.
if(CMAKE_CUDA_COMPILER)
  set(CPACK_PACKAGE_NAME qtool-cuda)
  set(CPACK_DEBIAN_PACKAGE_PROVIDES qtool)
  set(CPACK_DEBIAN_PACKAGE_CONFLICTS qtool)
  set(CPACK_DEBIAN_PACKAGE_REPLACES qtool)
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libcublas-${CUDAToolkit_VERSION_MAJOR}-${CUDAToolkit_VERSION_MINOR}")
  set(with_gpu " This build runs on NVIDIA GPUs, too.")
else()
  set(CPACK_PACKAGE_NAME qtool)
  set(CPACK_DEBIAN_PACKAGE_CONFLICTS qtool-cuda)
endif()
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "qtool developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "quantize Hugging Face checkpoints and run them")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"qtool writes NF4, FP4 and LLM.int8 checkpoints that equal those of
bitsandbytes on CUDA, tensor by tensor, and generates text from them,
without Python.${with_gpu}")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)  # the Hub is reached through TLS
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_CMAKE_PROJECTS
  "${PROJECT_BINARY_DIR};${PROJECT_NAME};ALL;/;${PROJECT_BINARY_DIR};${PROJECT_NAME};debian;/")
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # packing builds nothing
include(CPack)
