# Make a link beside the program for each of its commands: cmake -D PROGRAM=/path/of/repqat -P links.cmake
execute_process(COMMAND ${PROGRAM} --list-commands
  OUTPUT_VARIABLE commands OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" commands "${commands}")
cmake_path(GET PROGRAM PARENT_PATH folder)
cmake_path(GET PROGRAM FILENAME name)
foreach(command IN LISTS commands)
  file(REMOVE ${folder}/${command})
  file(CREATE_LINK ${name} ${folder}/${command} SYMBOLIC)
endforeach()
