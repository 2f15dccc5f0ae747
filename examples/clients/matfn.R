# A client of matfn for R, with the packages jsonlite and curl.
#
#   source("matfn.R"); matfn("inv_root", list(a = A), list(r = 4))$x
#   Rscript matfn.R inv_root a=A.csv r=4 --tol=1e-10 > X.csv

#' Calls a function of the service.
#'
#' @param name of the function, such as "inv_root".
#' @param inputs list of vectors, matrices and arrays of doubles, batch dimensions first.
#' @param params list of the function's parameters, such as list(r = 4); all seventeen digits are sent.
#' @param options list of the call's options, such as list(tol = 1e-10).
#' @return list of the outputs by name, with the certificates as the attribute "certificates".
matfn <- function(name, inputs, params = list(), options = list(),
                  url = Sys.getenv("MATFN_URL", "http://127.0.0.1:8000"), key = Sys.getenv("MATFN_API_KEY"), tries = 5) {
  named <- function(values) if (length(values)) lapply(values, written) else setNames(list(), character())
  call <- list(inputs = Map(encoded, inputs, names(inputs)), params = named(params), options = named(options))
  address <- paste0(sub("/+$", "", url), "/v1/", name)
  unreachable <- function(detail) stop(problem(list(code = "unreachable", detail = paste0(address, ": ", detail), hint = "does the server run there?")))
  handle <- curl::new_handle(postfields = jsonlite::toJSON(call, auto_unbox = TRUE, json_verbatim = TRUE))
  authorization <- if (nzchar(key)) list(Authorization = paste("Bearer", key))
  curl::handle_setheaders(handle, .list = c(list("Content-Type" = "application/json"), authorization))
  repeat {
    response <- tryCatch(curl::curl_fetch_memory(address, handle), error = function(e) unreachable(conditionMessage(e)))
    answer <- tryCatch(jsonlite::fromJSON(rawToChar(response$content), simplifyVector = FALSE),
                       error = function(e) unreachable(paste0("status ", response$status_code, ", without JSON")))
    if (response$status_code == 200) break
    tries <- tries - 1
    if (tries < 1 || is.null(answer$retry_after_ms)) stop(problem(answer))
    Sys.sleep(answer$retry_after_ms / 1000) # every call may be repeated
  }
  structure(lapply(answer$outputs, decoded), certificates = answer$certificates)
}

# A condition of the class of its code: tryCatch(..., not_positive = function(problem) problem$hint)
problem <- function(answer) {
  text <- paste(c(paste0(answer$code, ": ", answer$detail), answer$hint), collapse = "; ")
  structure(c(list(message = text, call = NULL), answer), class = c(answer$code, "matfn_problem", "error", "condition"))
}

# R stores columns one after the other, the service rows: the dimensions go in reverse.
encoded <- function(value, name) {
  if (!(is.numeric(value) || is.logical(value))) {
    stop(name, " is a ", class(value)[1], " of type ", typeof(value), "; inputs are vectors, matrices and arrays of real numbers", call. = FALSE)
  }
  shape <- if (is.null(dim(value))) length(value) else dim(value)
  rows <- if (length(shape) > 1) aperm(value) else value
  octets <- writeBin(as.double(rows), raw(), endian = "little")
  list(dtype = "float64", shape = I(shape), data = gsub("\n", "", jsonlite::base64_enc(octets), fixed = TRUE))
}

# Numbers of params as JSON: toJSON keeps fifteen digits at most.
written <- function(value) {
  if (is.list(value)) return(lapply(value, written))
  if (!is.numeric(value) || !all(is.finite(value))) return(value)
  if (length(dim(value)) > 2) stop("a parameter is an array of ", length(dim(value)), " dimensions: give a list of its parts", call. = FALSE)
  text <- array(sprintf("%.17g", value), if (is.null(dim(value))) length(value) else dim(value))
  joined <- function(texts) paste0("[", paste(texts, collapse = ","), "]")
  if (length(dim(text)) > 1) text <- joined(apply(text, 1, joined))
  else if (length(text) != 1 || inherits(value, "AsIs")) text <- joined(text)
  structure(as.vector(text), class = "json")
}

decoded <- function(tensor) {
  stopifnot(tensor$dtype == "float64")
  octets <- jsonlite::base64_dec(tensor$data)
  numbers <- readBin(octets, "double", length(octets) / 8, endian = "little")
  shape <- unlist(tensor$shape)
  if (length(shape) < 2) numbers else aperm(array(numbers, rev(shape)))
}

usage <- "usage: Rscript matfn.R FUNCTION INPUT=FILE.csv ... PARAMETER=VALUE ... --OPTION=VALUE ..., such as inv_root a=A.csv r=4 --tol=1e-10"

# One line is a vector, but a single number a matrix; A.csv@2x3x3 states the shape, here of two matrices.
read_file <- function(text) {
  path <- sub("@[0-9x]+$", "", text)
  if (!file.exists(path)) stop("there is no file ", path, call. = FALSE)
  widths <- count.fields(path, ",", comment.char = "")
  if (any(widths != widths[1])) stop(path, ": its rows have different lengths, ", toString(unique(widths)), call. = FALSE)
  cells <- as.matrix(read.csv(path, header = FALSE, colClasses = "character", na.strings = character()))
  rows <- matrix(suppressWarnings(as.numeric(cells)), nrow(cells))
  wrong <- which(is.na(rows), arr.ind = TRUE)
  if (length(wrong)) stop(sprintf("%s, row %d, column %d: \"%s\" is not a number", path, wrong[1, 1], wrong[1, 2], cells[wrong[1, , drop = FALSE]]), call. = FALSE)
  if (path == text) return(if (nrow(rows) > 1 || length(rows) == 1) rows else as.vector(rows))
  shape <- as.integer(strsplit(sub("^.*@", "", text), "x")[[1]])
  if (prod(shape) != length(rows)) stop(text, ": the file has ", length(rows), " numbers", call. = FALSE)
  aperm(array(t(rows), rev(shape)))
}

main <- function(words) {
  if (!length(words) || grepl("=", words[1])) stop(usage, call. = FALSE)
  name <- words[1]
  words <- words[-1]
  wrong <- words[!grepl("^(--)?[^=]+=.", words)]
  if (length(wrong)) stop("'", wrong[1], "' is not NAME=VALUE; ", usage, call. = FALSE)
  values <- setNames(as.list(sub("^[^=]*=", "", words)), sub("=.*$", "", sub("^--", "", words)))
  is_option <- grepl("^--", words)
  is_file <- !is_option & grepl("[.]csv(@[0-9x]+)?$", values)
  parsed <- function(text) if (text %in% c("true", "false")) text == "true" else type.convert(text, as.is = TRUE)
  outputs <- matfn(name, lapply(values[is_file], read_file), lapply(values[!is_file & !is_option], parsed), lapply(values[is_option], parsed))
  told <- vapply(attr(outputs, "certificates"), function(certificate) paste(certificate$outcome, certificate$error_estimate), "")
  for (name in names(outputs)) {
    x <- outputs[[name]]
    message(name, " ", paste(told, collapse = "; "))
    width <- if (is.null(dim(x))) length(x) else tail(dim(x), 1)
    if (length(x)) writeLines(apply(matrix(sprintf("%.17g", if (is.null(dim(x))) x else aperm(x)), width), 2, paste, collapse = ","))
  }
}

if (sys.nframe() == 0) {
  tryCatch(main(commandArgs(trailingOnly = TRUE)), error = function(problem) {
    message(conditionMessage(problem))
    quit(status = 1)
  })
}
