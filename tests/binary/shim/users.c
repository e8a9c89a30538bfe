// Gives this user the home folder USER_DATABASE_HOME in the system's database of users.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pwd.h>
#include <stdlib.h>

int getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t size, struct passwd **result) {
  int (*next)(uid_t, struct passwd *, char *, size_t, struct passwd **) = dlsym(RTLD_NEXT, "getpwuid_r");
  int error = next(uid, user, buffer, size, result);
  char *home = getenv("USER_DATABASE_HOME");
  if (!error && *result && home) user->pw_dir = home;
  return error;
}
