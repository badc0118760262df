// Loaded before Azurite: it ends with the process that started it, however that one ended.
process.stdin.on("end", () => process.exit(0)).resume();
