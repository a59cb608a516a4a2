/** Every bound of builder, in one place: its name carries the unit, its comment the reason. */

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const limits = {
  /** A script is read whole into memory by server and worker. */
  scriptBytesMax: 1 * MIB,
  /** A request body other than an input; holds a script in JSON, or a batch of runs. */
  bodyBytesMax: 32 * MIB,
  /** One input file; streamed, so the bound only catches mistakes. */
  inputBytesMax: 1024 * GIB,
  /** Inputs of one run: their list travels in the run's record. */
  inputsPerRunMax: 20_000,
  /** Runs of one `POST runs` array. */
  runsPerRequestMax: 10_000,
  /** Variables, labels, globs, template parameters of one job. */
  envEntriesMax: 1_000,
  envValueBytesMax: 128 * KIB,
  /** Secrets of one run: what masks them is looked through for every byte of its output. */
  secretsPerRunMax: 32,
  secretNameCharsMax: 128,
  /** A key with its certificates has a quarter of it; what masks a secret takes some hundred times its size in memory. */
  secretBytesMax: 32 * KIB,
  labelsMax: 64,
  labelValueCharsMax: 256,
  globsMax: 256,
  pathBytesMax: 4096,
  reasonCharsMax: 1_000,

  /** How long a script may run when nobody said. */
  timeoutMsDefault: HOUR,
  timeoutMsMax: 30 * DAY,
  /** Between SIGTERM and SIGKILL. */
  graceMsDefault: 10 * SECOND,
  graceMsMax: HOUR,
  /** After the script's leader ended, how long a child that still holds its output open may delay the end. */
  outputHoldMs: 2 * SECOND,
  /** Of a script's output, read and not yet on the worker's disk: enough that reading does not wait for each write. */
  outputTakenBytesMax: 512 * KIB,
  /** The shortest distance of two ticks of one schedule. */
  everyMsMin: SECOND,
  everyMsMax: 366 * DAY,
  /** A tick taken later was missed, if servers were away: longer than they need to take over one that died with its server (15 s). */
  tickLateMs: 20 * SECOND,
  /** Missed ticks of one cron schedule that are counted, for it is one by one and half a millisecond each; then it is «so many at least». */
  missedTicksCountedMax: 500,
  /** Ticks of one schedule that make runs within a minute: twice what the shortest schedule asks for, so only a fault gets there. */
  launchesPerMinuteMax: 120,

  /** What is kept of one attempt's log, its lines as JSON: more is a script gone wild, and a few such would fill disk and store. */
  logBytesMax: 256 * MIB,
  /** How much of that is the end: it waits in the worker's memory, for as many runs as write so much. */
  logTailKeptBytes: 4 * MIB,
  /** A longer line of log is stored in pieces marked as continued, so a line cannot fill memory. */
  logLineBytesMax: 256 * KIB,
  /** What a worker holds in memory of one log until Redis has it: enough for some entries on their way; a longer queue is on its disk. */
  logWindowBytes: 2 * MIB,
  /** Entries of one log that Redis takes together or not at all, and such groups on their way at a time: while Redis takes one the next comes. */
  logGroupEntriesMax: 8,
  logGroupsAtOnce: 2,
  /** One stream entry: large enough for throughput, small enough for latency and Redis. */
  logEntryBytesMax: 128 * KIB,
  /** Redis holds at most about this much of one log; older lines are in the store. */
  logTailBytesMax: 8 * MIB,
  /** One archived piece of a log. */
  logSegmentBytes: 4 * MIB,
  /** The stream of a finished log stays for observers in the middle of it. */
  logStreamTtlMsAfterEnd: 10 * MINUTE,
  /** A stream whose writer is gone for so long is dropped by Redis. */
  logStreamTtlMs: 30 * DAY,
  /** Wake-up streams only say «look again»; older entries are of no use. */
  wakeEntriesMax: 1_000,
  logShards: 64,

  /** How long a run that a worker was handed beyond its places waits for one before it is given back. */
  placeWaitMs: 250,
  /** How long a free place is kept for a platform whose run went back. */
  placeOfferMs: 50,
  /** Folders of runs that a worker takes away at a time; while there are so many, none begins. */
  foldersGoingMax: 16,
  /** Folders that a worker keeps for runs to come; each is three folders and three small files. */
  spareFoldersMax: 256,
  /** What lies about for longer is not used: a machine may tidy up its temporary files. */
  spareFolderMsMax: HOUR,
  /** How coarse the times of a file may be: two changes within it can have one time. Kernels count in ticks of up to 10 ms. */
  fileClockTickMs: 20,
  /** Where a file system keeps whole seconds. */
  coarseFileClockTickMs: 2 * SECOND,

  artifactsPerRunMax: 100_000,
  /** Files that a worker reads or writes at a time for one run: enough to hide the store's latency, few open files. */
  filesAtOnce: 8,
  /** A file of at most so much is read whole, and sent from memory: with limits.filesAtOnce of them, little of it. */
  wholeFileBytesMax: 1 * MIB,
  /** Artifacts whose bytes are asked for in one request; together they have at most wholeFileBytesMax, since the server holds them in memory. */
  filesTogetherMax: 256,
  /** Small files are placed without a wait while each look and each file takes no longer on average: a local disk is ten times as fast. */
  placingMsMax: 1,
  /** A file of at least so much is stored while it is hashed, where the store can and no artifact of its length came before: so many are remembered. */
  onePassBytesMin: 8 * MIB,
  onePassLengthsMax: 10_000,
  /** Threads of a program for files, each of about 8 MiB; no more than the machine has processors, but for the least of two. */
  fileThreadsMax: 4,
  /** Where none could be started none is tried for so long: Node keeps something of each try. */
  fileThreadRetryMs: 10 * SECOND,
  /** A run that left at least so many files has the small ones stored by those threads, so many at a time. */
  threadFilesMin: 64,
  /** Where a worker has no descriptor left for what a run left, it tries again after so long; and begins with that run's files anew after so long. */
  descriptorRetryMs: 100,
  descriptorsMsMax: 10 * SECOND,
  /** Documents and artifacts of at most so much are written together with others that come at the same time. */
  togetherBytesMax: 256 * KIB,
  /** Names in a folder store of which a process remembers that they are durable; each takes 200 bytes. */
  durableNamesMax: 50_000,
  /** What a worker reads of small files in one go, before others get their turn. */
  collectTurnMs: 5,
  /** Lines of log that say the same of different files; the rest is one line with their number. */
  notesPerKindMax: 20,
  /** Scripts that a worker remembers, so that a thousand runs of one job read it once. */
  scriptCacheBytes: 8 * MIB,
  /** Upload part of the S3 store; the part is what one upload holds in memory. */
  s3PartBytes: 16 * MIB,
  /** Uploads to one S3 store at a time, of all runs together, small content apart: each holds a part in memory. */
  s3UploadsMax: 32,
  /** S3 takes no upload of more parts; a larger file has larger parts. */
  s3PartsMax: 10_000,
  /** Requests in flight to one S3 store; downloads by slow readers hold one each. */
  s3ConnectionsMax: 256,
  /** Tries of one request before its fault is told; with the pauses between them a hiccup of seconds passes unseen. */
  s3TriesMax: 6,
  s3RetryPauseMs: 100,
  s3RetryPauseMsMax: 5 * SECOND,
  /** A connection to the store on which nothing moves for so long is dead. */
  s3IdleMsMax: 60 * SECOND,
  /** What failed only after so long went well before: no request is tried for as long as this. */
  storeTryMsMax: 10 * MINUTE,
  /** So many are told apart for one run; a fault that comes at the end of each try, however long, is one that stays. */
  storeOutagesMax: 4,
  /** S3 refuses requests whose time is further from its own than this. */
  s3SkewMsMax: 15 * MINUTE,
  /** A store that has not answered for so long is not ready. */
  storeCheckMsMax: 5 * SECOND,
  /** Temporary files and unfinished uploads older than this are nobody's; no upload of one file takes so long. */
  storeLeftoverMs: DAY,
  /** Keys of documents: one name of a file system holds 255 bytes, and escaped threefold they fit the 1,024 of S3. */
  documentKeyBytesMax: 255,

  /** BullMQ's lock on a run: a worker silent for longer is taken for dead. */
  lockDurationMs: 10 * SECOND,
  /** How often a worker renews its locks: three renewals in a row may fail. */
  lockRenewMs: 2_500,
  /** How often servers look for abandoned runs. */
  stalledIntervalMs: 2_500,
  /** Servers ask more often; a longer pause of all of them means that workers may have failed to renew their locks too. */
  redisSilentMs: 5 * SECOND,
  /** Retries that a run may ask for. */
  retriesMax: 100,
  /** Before the first retry, and at most before a later one; each waits twice as long as the one before. */
  backoffMsDefault: SECOND,
  backoffMsMaxDefault: MINUTE,
  backoffMsMax: DAY,
  /** A retry that no server has started so long after it was due, BullMQ starts by the clock of some worker. */
  retryUnattendedMs: 7 * DAY,
  /** Redis's clock has jumped where it went on by so much more, or less, than a server's own; its answers may be late by less. */
  clockJumpMsMin: 3 * SECOND,
  /** Servers look at Redis's clock every second; where it went on by so much more meanwhile it has jumped, or no server was there. */
  clockUnwatchedMs: 30 * SECOND,
  /** Worker deaths of one run before it is `lost`. */
  workerDeathsMax: 3,
  /** Faults of builder itself (storage, disk) in one run before it is `refused` or `lost`. */
  faultsMax: 5,
  /** How long a worker tries to store a finished attempt while the store or Redis is away before the run is `lost`; what a dead one left, until the next start. */
  storeOutageMsMax: 30 * MINUTE,
  /** Parts of that time, while a log is finished: one at whose end Redis is away does not count. */
  storeOutageLooks: 30,
  /** What a dead worker left of a run, and a start could not store since Redis or the store was away for too long, is not kept for another if it is older: a disk must not fill for ever. */
  leftAttemptMsMax: 7 * DAY,
  /** Room that a starting worker makes at a time on a disk that dead ones' runs have filled: its folder and the trial of a sandbox need a few blocks. */
  startRoomBytes: 64 * KIB,
  /** How long a worker waits for room in a full store before the run ends without its artifacts. */
  storeFullMsMax: 20 * SECOND,
  /** Pause before a fault of the store or Redis is tried again. */
  faultPauseMs: 1 * SECOND,
  heartbeatMs: 2 * SECOND,
  /** After so many heartbeats that say only that nothing has changed comes a whole one. */
  heartbeatsShortMax: 4,
  /** A worker that has not been heard of for so long is no longer listed. */
  workerTtlMs: 15 * SECOND,
  /** Servers complete what a crash left half accepted after so long. */
  acceptingGraceMs: 5 * SECOND,
  sweepIntervalMs: 1 * SECOND,
  /** Waiting for so long raises a run by one class of priority, so that none starves. */
  agingMs: 10 * MINUTE,
  /** BullMQ's finished jobs are a view for the board; the records are the truth. */
  boardFinishedJobsMax: 1_000,

  /** Lines of a console that the board's Logs tab shows; the run's page has all. */
  boardLogLines: 500,

  idempotencyTtlMs: DAY,
  sessionTtlMs: 12 * HOUR,

  pageRunsMax: 1_000,
  pageRunsDefault: 50,
  infoNextMax: 20,
  prefixCharsMin: 8,
  ticksListedMax: 1_000,

  /** How long a program waits for Redis or the store at its start before it gives up with one line. */
  startWaitMs: 10 * SECOND,
  /** A duty of a server that fails for so long is told of as a warning, and again after as long. */
  dutyFaultToldMs: 60 * SECOND,
  /** An answer of Redis that has not come after so long never comes: its packets are dropped somewhere. */
  redisAnswerMsMax: 5 * SECOND,
  /**
   * How long BullMQ waits in Redis for work before it asks anew. What comes meanwhile it has at once, unless Redis told another worker of it that is suspended or was
   * cut off just then. No longer: its own most.
   */
  queueWaitMs: 10 * SECOND,
  /** As redisAnswerMsMax where commands block. */
  redisBlockedAnswerMsMax: 12 * SECOND,
  /** Between SIGTERM and SIGKILL where the worker itself must end now, whatever grace a run has. */
  forcedGraceMs: 2 * SECOND,
  /** A sandbox that breaks so shortly before, or after, its worker is told to end was ended by the same hand. */
  endingToldMsMax: SECOND,
  endingBrokeMsMax: 10 * SECOND,
  /** How long a worker that must end now tries to put its runs back, should Redis be away. */
  forcedEndMs: 9 * SECOND,
  /** How long a worker that drains and has nothing left to do waits for Redis to let go of it. */
  idleCloseMsMax: 10 * SECOND,
  /** `up`: how long running scripts may finish after the first signal before they go back to the queue. */
  upDrainMs: 10 * SECOND,
  /** A follower whose server is gone tries again for so long before it gives up. */
  followReconnectMs: 5 * MINUTE,
  /** Pauses between its tries: short enough to miss little, long enough not to press a server that starts. */
  followPauseMs: 250,
  followPauseMsMax: 5 * SECOND,
  /** A producer whose request may have made runs, but whose answer was lost, asks again for so long: a server starts in a second or two. */
  insistMsMax: 20 * SECOND,
  /** How long a producer waits for an answer other than a log or a file. */
  clientAnswerMsMax: MINUTE,
  /** A log or a file of which nothing comes for so long has lost its server: one that stands says so every eventStreamPingMs. */
  clientSilenceMsMax: MINUTE,
  /** A connection on which nothing comes is asked by the kernel, after so long, whether its other end still lives. */
  deadPeerMs: MINUTE,
  /** A follower looks at the record at least this often, should a wake-up have been lost. */
  followPollMs: 2 * SECOND,
  /** A log that is followed says so often that it stands, so that a dead connection is noticed and a quiet one is not given up. */
  eventStreamPingMs: 5 * SECOND,

  /** How often a sandbox looks whether what a script left behind still lives: first soon, then calmly. */
  leftoverPollMs: 10,
  leftoverPollMsMax: 100,
  /** A process that starts the scripts of a worker, and the room that bwrap makes for it, is given up if it takes longer. */
  slotReadyMsMax: 10 * SECOND,
  /** Rooms that are given up one after the other, since the machine mounts all the time, before a run goes without one. */
  staleSlotsMax: 3,
  /** For so long none is tried then. */
  roomsRestMs: 10 * SECOND,
  /** A sandbox's init that has not ended everything so long after it was told to is ended with everything in it. */
  initAnswerMsMax: 10 * SECOND,
  /** Without namespaces: what cannot be killed within this time (it sleeps in the kernel, or belongs to another user) is a fault. */
  sweepMsMax: 8 * SECOND,
  /** How long a look for a run's processes follows what is started meanwhile; a worker does nothing else for so long. */
  newcomersMsMax: 100,
  /** Killed processes told by name; a fork bomb leaves thousands, and the record travels through Redis. */
  killedListedMax: 100,
  killedCommandCharsMax: 200,
  /** What a sandbox's own programs said before they failed; only the last line is told. */
  sandboxErrorBytesMax: 4 * KIB,
  /** A timer of Node holds no more; a longer time is waited for in parts. */
  timerMsMax: 20 * DAY,

  /** How long requests in flight may go on after a server was told to stop: longer ones are downloads, and their clients resume. */
  serverDrainMs: 5 * SECOND,
  /** Answers of `/readyz` are kept for so long: it needs no token, and asks Redis and the store. */
  readyAnswerMs: 1 * SECOND,

  /** Less than this, and a shell does not start. */
  memoryBytesMin: 1 * MIB,
  /** The kernel's shortest quota, 1 ms of 100 ms. */
  cpusMin: 0.01,
  cpusMax: 10_000,
  /** The kernel's own largest number of processes. */
  pidsMax: 4_194_304,
  /** One block of a file system. */
  diskBytesMin: 4 * KIB,
  /** Pause between two looks at what a run with a limit of disk holds: what it can write in between is the limit's error. */
  diskPollMs: 1 * SECOND,
  /** Looking costs at most one part in so many of a core: after a look that took long the pause is so many times as long. */
  diskPollPart: 10,
  /** Files looked at in one go, before others get their turn. */
  diskWalkAtOnce: 64,
  /** Of a folder that is to be removed; the system takes paths of 4,096 bytes, and a name has 255. */
  removePathBytesMax: 3 * KIB,
  /** A script that seems silent is looked at once more after so long: output may wait in the pipe when the worker itself was stopped. */
  silenceAgainMs: 250,
  /** How much nicer scripts are than their worker, so that heartbeat and locks come first. */
  scriptNice: 5,
  /** A control group whose last process has just ended cannot be removed at once. */
  cgroupRemoveMsMax: 5 * SECOND,
} as const;
